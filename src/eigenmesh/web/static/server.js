// What is asked of Eigenmesh.

export class Refused extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

async function send(path, method, body) {
  let answer;
  try {
    answer = await fetch(path, {
      method,
      headers: { "Content-Type": "application/json", "X-Eigenmesh": "1" },
      body: body === undefined ? undefined : JSON.stringify(body),
    });
  } catch {
    throw new Refused(0, "Eigenmesh cannot be reached");
  }
  const text = await answer.text();
  let found = {};
  try {
    found = text ? JSON.parse(text) : {};
  } catch {
    found = { message: text };
  }
  if (!answer.ok) throw new Refused(answer.status, found.message || answer.statusText);
  return found;
}

const MESH = "meshes/-";

/** A call of the gRPC API; `name` is the resource's, under the mesh. */
export const call = (method, name = "", request = {}) =>
  send(`/api/call/${method}`, "POST", { name: name ? `${MESH}/${name}` : MESH, ...request });

/** A list of it. */
export const list = (method, request = {}) => send(`/api/call/${method}`, "POST", { parent: MESH, ...request });

export const session = () => send("/api/session", "GET");
export const signIn = (token) => send("/api/session", "POST", { token });
export const signOut = () => send("/api/session", "DELETE");
export const history = (route) => send(`/api/history?route=${encodeURIComponent(route)}`, "GET");

/** Calls `show` with every view of the mesh, `lost` while there is none; it comes back by itself. */
export function follow(show, lost) {
  const source = new EventSource("/api/events");
  source.onmessage = (event) => show(JSON.parse(event.data));
  source.onerror = () => lost(source.readyState === EventSource.CLOSED);
  return source;
}
