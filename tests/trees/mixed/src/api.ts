// TypeScript, next to Python.
import axios, { AxiosInstance } from "axios";

export class Users {
  constructor(private readonly http: AxiosInstance, public name: string) {}

  async all(ids: string[]): Promise<User[]> {
    const users: User[] = [];
    for (const id of ids) {
      const response = await this.http.get<User>(`/users/${id}`); // LOOP GET /users/{id}
      users.push(response.data as User);
    }
    return users;
  }
}

const load = async (http: AxiosInstance, id: number) => http.patch<User>(`/loaded/${id}`, {});

export async function many(http: AxiosInstance, ids: number[]) {
  const typed: AxiosInstance = make();
  await Promise.all(ids.map((id) => typed.get(`/typed/${id!}`))); // LOOP GET /typed/{id}
  return Promise.all(ids.map((id) => load(http, id))); // LOOP PATCH /loaded/{id}
}

export const settings = <T>(values: Map<string, T>, keys: string[]) => keys.map((k) => values.get(k));
