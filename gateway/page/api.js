/** What the gateway is asked. A refusal is a Problem with the gateway's code, no answer the code
 * "network". */

const PATIENCE_MS = 60_000;

/** Relative, so that the page also works below another path. */
export const address = (path) => new URL(`../../${path}`, import.meta.url);

export class Problem extends Error {
	constructor(code, message = "", retryable = true) {
		super(message);
		Object.assign(this, { code, retryable });
	}
}

/** `askForKey` resolves to true once the gateway has taken a key. */
export const hooks = {};

/** The answer's JSON. Without a body a GET, else a POST of a form or of JSON. */
export async function call(path, body, signal = AbortSignal.timeout(PATIENCE_MS)) {
	const options = { signal };
	if (body) options.method = "POST";
	if (body instanceof FormData) options.body = body;
	else if (body) Object.assign(options, { body: JSON.stringify(body), headers: { "content-type": "application/json" } });
	let response, answer;
	try {
		response = await fetch(address(path), options);
		answer = await response.json();
	} catch {
		// Also for a proxy's page in place of the gateway's answer.
		throw new Problem("network");
	}
	if (response.ok) return answer;
	if (response.status === 401 && !body?.key && (await hooks.askForKey())) return call(path, body);
	throw new Problem(answer.code, answer.message, answer.retryable);
}
