/** One finger, pen or mouse paints, two fingers or space move, and keys do what a hand does. */

const PALM_MS = 600
const STEP = 4

/** `mode()` is what a pointer does: "paint", "compare" or "" (nothing). */
export function listen(stage, hand, { mode, compare, resize, choose }) {
	const hear = (event, act) => stage.root.addEventListener(event, act, { passive: false })
	const fingers = new Map()
	// What the pointer `active` does: "paint", "compare" or "pan".
	let doing = ""
	let active, penAt, space

	hear("pointerdown", (event) => {
		const { pointerId, pointerType, button, timeStamp, target } = event
		if (pointerType === "pen") penAt = timeStamp
		const isTouch = pointerType === "touch"
		const isPalm = isTouch && timeStamp - penAt < PALM_MS
		if (!mode() || isPalm || target.closest("button, label")) return
		stage.root.setPointerCapture(pointerId)
		stage.root.focus({ preventScroll: true })
		if (isTouch) fingers.set(pointerId, event)
		if (fingers.size > 1) {
			if (doing === "paint") hand.drop()
			doing = ""
		} else if (!doing && button < 2) {
			active = pointerId
			doing = space || button ? "pan" : mode()
			if (doing === "paint") hand.down(stage.toPhoto(event), event.altKey)
			if (doing === "compare") compare(event)
		}
	})

	hear("pointermove", (event) => {
		const { pointerId, pointerType } = event
		if (pointerType === "pen") penAt = event.timeStamp
		const before = fingers.size > 1 && spread(fingers)
		if (fingers.has(pointerId)) fingers.set(pointerId, event)
		if (before) {
			const { length, x, y } = spread(fingers)
			stage.pan(x - before.x, y - before.y)
			if (before.length) stage.zoom(length / before.length, x, y)
		} else if (!doing) hand.hover(pointerType === "touch" ? null : stage.toPhoto(event))
		else if (pointerId !== active) return
		else if (doing === "pan") stage.pan(event.movementX, event.movementY)
		else if (doing === "compare") compare(event)
		else for (const one of event.getCoalescedEvents?.() ?? [event]) hand.drag(stage.toPhoto(one))
	})

	for (const end of ["pointerup", "pointercancel"]) {
		hear(end, (event) => {
			fingers.delete(event.pointerId)
			if (event.pointerId !== active) return
			if (doing === "paint" && end === "pointerup") hand.up(stage.toPhoto(event))
			else if (doing === "paint") hand.drop()
			doing = ""
		})
	}
	hear("pointerleave", () => doing || hand.hover(null))
	hear("blur", () => (space = false))

	hear("wheel", (event) => {
		if (!mode()) return
		event.preventDefault()
		const { deltaY, clientX, clientY } = event
		if (event.altKey) resize(Math.exp(-deltaY / 500))
		else stage.zoom(Math.exp(-deltaY / (event.ctrlKey ? 100 : 700)), clientX, clientY)
	})

	const nudge = (dx, dy) => ({ shiftKey }) => {
		const k = (shiftKey ? 10 : 1) * (STEP / stage.view.scale)
		const inside = (v, most) => Math.max(0, Math.min(most, v))
		const [x, y] = hand.at ?? [stage.width / 2, stage.height / 2]
		hand.hover([inside(x + dx * k, stage.width), inside(y + dy * k, stage.height)])
	}
	const keys = {
		"[": () => resize(1 / 1.1),
		"]": () => resize(1.1),
		b: () => choose("brush"),
		e: () => choose("eraser"),
		r: () => choose("rect"),
		l: () => choose("lasso"),
		Escape: () => hand.drop(),
		ArrowLeft: nudge(-1, 0),
		ArrowRight: nudge(1, 0),
		ArrowUp: nudge(0, -1),
		ArrowDown: nudge(0, 1),
		Enter(event) {
			nudge(0, 0)(event)
			hand.down(hand.at, event.altKey)
			hand.up(hand.at)
		},
	}
	hear("keyup", ({ key }) => key === " " && (space = false))
	hear("keydown", (event) => {
		if (event.target !== stage.root || !mode() || event.ctrlKey || event.metaKey) return
		if (event.key === " ") space = true
		else if (mode() !== "paint" || !keys[event.key]) return
		else keys[event.key](event)
		event.preventDefault()
	})
}

function spread(fingers) {
	const [a, b] = fingers.values()
	const length = Math.hypot(a.clientX - b.clientX, a.clientY - b.clientY)
	return { length, x: (a.clientX + b.clientX) / 2, y: (a.clientY + b.clientY) / 2 }
}
