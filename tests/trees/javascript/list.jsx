// What a page does when it is clicked is no loop; what it does when it is shown is.
export function List({ items }) {
  useEffect(() => {
    items.forEach(async (item) => { await fetch(`/items/${item.id}`); }); // LOOP GET /items/{id}
  }, []);
  return <ul>{items.map((item) => <li key={item} onClick={() => fetch(`/no/${item}`)} />)}</ul>;
}
