/** The mask: operations in the photo's pixels, and the picture that they make. An operation is
 * {t: "brush", p: [x, y, ...], r, erase}, {t: "area", p, erase}, {t: "all" | "none" | "invert"}. */

const LONGEST = 2048

/** Draws one operation in a context that is set to the photo's pixels. */
export function apply(context, { t, p, r, erase }, width, height) {
	const ways = { none: "destination-out", invert: "xor" }
	context.globalCompositeOperation = erase ? "destination-out" : ways[t] ?? "source-over"
	context.beginPath()
	for (let i = 0; i < p?.length; i += 2) context.lineTo(p[i], p[i + 1])
	if (t === "brush") {
		// A line of no length has no caps in Safari.
		context.lineTo(p.at(-2) + 0.01, p.at(-1))
		Object.assign(context, { lineWidth: 2 * r, lineCap: "round", lineJoin: "round" }).stroke()
	} else if (t === "area") context.fill()
	else context.fillRect(0, 0, width, height)
}

/** White where the photo may change, else black, in a canvas that every phone can hold. */
export function rasterise(ops, width, height) {
	const k = Math.min(1, LONGEST / Math.max(width, height))
	const canvas = document.createElement("canvas")
	canvas.width = Math.max(1, Math.round(width * k))
	canvas.height = Math.max(1, Math.round(height * k))
	const context = canvas.getContext("2d", { willReadFrequently: true })
	context.scale(canvas.width / width, canvas.height / height)
	for (const op of ops) apply(context, op, width, height)
	const image = context.getImageData(0, 0, canvas.width, canvas.height)
	const pixels = new Uint32Array(image.data.buffer)
	let area = 0
	for (let i = 0; i < pixels.length; i++) {
		const white = pixels[i] >>> 31
		area += white
		pixels[i] = white ? -1 : 0xff000000
	}
	context.putImageData(image, 0, 0)
	return { canvas, area, whole: area === pixels.length }
}
