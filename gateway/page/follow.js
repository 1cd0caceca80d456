/** Keeps up with a job: by events, and by asking where no event comes. */

import { address, call } from "./api.js"

const QUIET_MS = 5000
const LOST_MS = 1500

/** Calls `onStatus` with each newer status until a final one, and `onLost` when nobody answers. */
export function follow(jobId, onStatus, onLost) {
	let stream, timer, newest
	let ended = false
	let wait = QUIET_MS

	function end() {
		ended = true
		stream.close()
		clearTimeout(timer)
	}

	function rest(ms) {
		wait = ms
		clearTimeout(timer)
		timer = setTimeout(ask, wait)
	}

	function hear(status) {
		// An event may overtake an answer.
		if (ended || status.updated_at < newest) return
		newest = status.updated_at
		if (/succeeded|failed|cancelled/.test(status.status)) end()
		onStatus(status)
	}

	async function ask() {
		try {
			hear(await call(`api/queue/status/${jobId}`))
			if (ended) return
			if (stream.readyState === EventSource.CLOSED) listen()
			rest(wait)
		} catch (problem) {
			if (ended) return
			// A job that the gateway no longer knows.
			if (!problem.retryable) return hear({ status: "failed", error: problem })
			onLost()
			rest(QUIET_MS)
		}
	}

	function listen() {
		stream = new EventSource(address(`api/queue/events/${jobId}`))
		stream.onmessage = ({ data }) => {
			rest(QUIET_MS)
			hear(JSON.parse(data))
		}
		stream.onerror = () => rest(LOST_MS)
	}

	listen()
	rest(wait)
}
