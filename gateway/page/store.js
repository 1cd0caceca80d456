/** What survives a reload: one session a tab, in IndexedDB. Without it (private windows) the page
 * works, and forgets. */

let db = null
let session = "0"

/** Opens the session that this tab had, else the first that no other tab holds. */
export async function openSession() {
	try {
		db = await new Promise((resolve, reject) => {
			const opening = indexedDB.open("qwen-image-edit", 1)
			opening.onupgradeneeded = () => opening.result.createObjectStore("kept")
			opening.onsuccess = () => resolve(opening.result)
			opening.onerror = reject
		})
	} catch {
		return
	}
	// Locks need HTTPS or localhost; without them all tabs share one session.
	if (!navigator.locks) return
	const mine = sessionStorage.session
	// A reload's former page lets go of its lock a moment late.
	let held = mine && (await hold((session = mine), { signal: AbortSignal.timeout(1000) }))
	for (let n = 0; !held; n++) held = await hold((session = `${n}`), { ifAvailable: true })
	sessionStorage.session = session
}

function hold(name, options) {
	return new Promise((resolve) => {
		const held = (lock) => (resolve(lock), lock && new Promise(() => {}))
		navigator.locks.request(`session-${name}`, options, held).catch(() => resolve(null))
	})
}

export const recall = async (name) => (await inStore((store, key) => store.get(key), name)) ?? null

/** Null forgets. A full disk loses the memory, not the work on the screen. */
export const keep = (name, value) => inStore((store, key) => store.put(value, key), name).catch(console.info)

async function inStore(act, name) {
	if (!db) return null
	const asked = act(db.transaction("kept", "readwrite").objectStore("kept"), `${session}/${name}`)
	return new Promise((resolve, reject) => {
		asked.onsuccess = () => resolve(asked.result)
		asked.onerror = reject
	})
}
