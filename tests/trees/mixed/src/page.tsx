// A page in TypeScript.
export function Page({ items }: Props) {
  const save = () => items.forEach((item: Item) => void fetch(`/items/${item.id}`, { method: "POST" })); // LOOP POST /items/{id}
  return <button onClick={save}>{items.map((item) => <b onClick={() => fetch(`/no/${item.id}`)} />)}</button>;
}
