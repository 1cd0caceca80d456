/** Asks the gateway. What it refuses is thrown with its `code`, `message` and `retryable`; no answer
 * has the code "network". */

const PATIENCE_MS = 60_000

/** Relative, so that the page also works below another path. */
export const address = (path) => new URL(`../../${path}`, import.meta.url)

export const hooks = {}

/** The answer's JSON; a POST where there is a body, a form or JSON. */
export async function call(path, body, signal = AbortSignal.timeout(PATIENCE_MS)) {
	const options = { signal }
	if (body) options.method = "POST"
	if (body instanceof FormData) options.body = body
	else if (body) Object.assign(options, { body: JSON.stringify(body), headers: { "content-type": "application/json" } })
	let response, answer
	try {
		response = await fetch(address(path), options)
		answer = await response.json()
	} catch {
		// Also for a proxy's page in place of the gateway's answer.
		answer = { code: "network", retryable: true }
	}
	if (response?.ok && !answer.code) return answer
	if (response?.status === 401 && !body?.key && (await hooks.askForKey())) return call(path, body)
	throw Object.assign(new Error(), answer)
}
