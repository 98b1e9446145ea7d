// Requests to the gateway, with the key that the page was given. The key is kept until the tab is
// closed.

/** How long an answer may take, in milliseconds. */
const PATIENCE = 10_000;

let key = sessionStorage.getItem("key");

export const hasKey = () => key !== null;

export function useKey(given) {
  key = given;
  if (key === null) sessionStorage.removeItem("key");
  else sessionStorage.setItem("key", key);
}

/** The response to a request. Throws in words if there is none. */
export async function ask(path, method = "GET") {
  const headers = key === null ? {} : { Authorization: `Bearer ${key}` };
  try {
    return await fetch(path, { method, headers, cache: "no-store", signal: AbortSignal.timeout(PATIENCE) });
  } catch (error) {
    const silent = error.name === "TimeoutError";
    throw new Error(silent ? "the gateway does not answer" : "the gateway cannot be reached", { cause: error });
  }
}

/** What went wrong with a request, in the words of the gateway if it has answered. */
export async function faultOf(response) {
  try {
    return (await response.json()).detail ?? `the gateway answered ${response.status}`;
  } catch {
    return `the gateway answered ${response.status}`;
  }
}

/** The JSON at a path. Throws what went wrong. */
export async function read(path) {
  const response = await ask(path);
  if (!response.ok) throw new Error(await faultOf(response));
  return response.json();
}
