// The chart of outcomes over time: three areas on one another, and the same as a table.

const OUTCOMES = ["succeeded", "failed", "skipped"];
const MOST_SAMPLES = 400;
const MOST_ROWS = 12;
const WIDTH = 600;
const HEIGHT = 120;

class Chart {
  constructor() {
    this.clear();
  }

  clear() {
    this.samples = [{ time: 0, succeeded: 0, failed: 0, skipped: 0 }];
    show(byId("chart"), false);
  }

  // Take note of how far a batch is; its times are those of the server.
  add(status) {
    const time = (Date.parse(status.updatedAt) - Date.parse(status.createdAt)) / 1000;
    const sample = { time, succeeded: status.succeeded, failed: status.failed, skipped: status.skipped };
    if (time > this.samples.at(-1).time) this.samples.push(sample);
    else if (this.samples.length > 1) this.samples[this.samples.length - 1] = sample;
    if (this.samples.length > MOST_SAMPLES) {
      this.samples = this.samples.filter((_, index, all) => index % 2 === 0 || index === all.length - 1);
    }
    this.draw(status.total);
  }

  draw(total) {
    show(byId("chart"), this.samples.length > 1);
    const { time: end } = this.samples.at(-1);
    const x = (sample) => (WIDTH * sample.time) / (end || 1);
    const y = (count) => HEIGHT * (1 - count / total);
    let floor = this.samples.map(() => 0);
    const areas = OUTCOMES.map((outcome) => {
      const top = this.samples.map((sample, index) => floor[index] + sample[outcome]);
      const corners = [
        ...this.samples.map((sample, index) => `${x(sample)},${y(top[index])}`),
        ...this.samples.map((sample, index) => `${x(sample)},${y(floor[index])}`).reverse(),
      ];
      floor = top;
      return makeSvg("polygon", { class: `area ${outcome}`, points: corners.join(" ") });
    });
    byId("chart-areas").replaceChildren(...areas);
    byId("chart-text").textContent = this.described(total);
    byId("chart-total").textContent = total.toLocaleString("en");
    byId("chart-end").textContent = seconds(end);
    byId("chart-rows").replaceChildren(...this.rows());
  }

  described(total) {
    const last = this.samples.at(-1);
    const parts = OUTCOMES.map((outcome) => `${last[outcome]} ${outcome}`).join(", ");
    return `Outcomes over ${seconds(last.time)}: of ${total}, ${parts}.`;
  }

  rows() {
    const step = Math.ceil(this.samples.length / MOST_ROWS);
    const last = this.samples.length - 1;
    return this.samples
      .filter((_, index) => index % step === 0 || index === last)
      .map((sample) =>
        make(
          "tr",
          {},
          make("th", { scope: "row" }, seconds(sample.time)),
          ...OUTCOMES.map((outcome) => make("td", {}, String(sample[outcome]))),
        ),
      );
  }
}
