// Elements of the page. Whatever is shown becomes a text node or an attribute: nothing is markup.

const SVG = "http://www.w3.org/2000/svg";

function byId(id) {
  return document.getElementById(id);
}

function filled(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

function make(name, attributes = {}, ...children) {
  return filled(document.createElement(name), attributes, children);
}

function makeSvg(name, attributes = {}, ...children) {
  return filled(document.createElementNS(SVG, name), attributes, children);
}

function show(element, isShown) {
  element.hidden = !isShown;
}

function counted(number, one, many = `${one}s`) {
  return `${number.toLocaleString("en")} ${number === 1 ? one : many}`;
}

function bytes(number) {
  if (number < 1024) return counted(number, "byte");
  const [size, unit] = number < 1024 ** 2 ? [number / 1024, "KiB"] : [number / 1024 ** 2, "MiB"];
  return `${size.toLocaleString("en", { maximumFractionDigits: 1 })} ${unit}`;
}

function seconds(number) {
  const digits = number < 10 ? 1 : 0;
  return `${number.toLocaleString("en", { maximumFractionDigits: digits })} s`;
}

function percentage(share) {
  return `${Math.floor(share * 100)} %`;
}

// Say something to those who hear the page; what is seen says it already.
function announce(text) {
  byId("news").textContent = text;
}
