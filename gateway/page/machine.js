/** What each event does in each state, and what is seen there; the table is machine.json. Pure. */
export function machine({ events, states, shows }) {
	const columns = events.split(" ")
	return {
		/** The next state; null where the event means nothing. */
		next(state, event) {
			const next = states[state].split(" ")[columns.indexOf(event)]
			if (!next) throw new Error(`no event ${event}`)
			return next === "." ? null : next
		},
		sees: (state, part) => shows[part].split(" ").includes(state),
	}
}
