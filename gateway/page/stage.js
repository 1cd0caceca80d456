/** The photo and what is painted on it, at any zoom. The canvases have the window's size, never the
 * photo's: phones limit them. */

import { apply } from "./mask.js"

const MARGIN = 24
const IN_SIGHT = 60
const MOST_ZOOM = 32

export class Stage {
	width = 1
	height = 1
	ops = []
	view = { scale: 1, x: 0, y: 0 }
	fitted = true

	/** `plate` holds the pictures, one unit a photo pixel; two canvases lie over all of `root`. */
	constructor(root, plate, mask, cursor) {
		Object.assign(this, { root, plate, mask: mask.getContext("2d"), cursor: cursor.getContext("2d"), hatch: hatching() })
		new ResizeObserver(() => this.resize()).observe(root)
	}

	setPhoto(width, height) {
		if (this.width === width && this.height === height) return
		Object.assign(this, { width, height })
		Object.assign(this.plate.style, { width: `${width}px`, height: `${height}px` })
		this.fit()
	}

	resize() {
		this.ratio = Math.min(devicePixelRatio, 2)
		for (const { canvas } of [this.mask, this.cursor]) {
			canvas.width = this.root.clientWidth * this.ratio
			canvas.height = this.root.clientHeight * this.ratio
		}
		if (this.fitted) this.fit()
		else this.move(this.view)
	}

	get whole() {
		const { clientWidth: w, clientHeight: h } = this.root
		const scale = Math.max(0.001, Math.min((w - MARGIN) / this.width, (h - MARGIN) / this.height))
		return { scale, x: (w - this.width * scale) / 2, y: (h - this.height * scale) / 2 }
	}

	fit() {
		this.move(this.whole)
		this.fitted = true
	}

	/** Zooms about a point of the window, or about the middle. */
	zoom(factor, clientX, clientY) {
		const box = this.root.getBoundingClientRect()
		const px = clientX ? clientX - box.left : box.width / 2
		const py = clientX ? clientY - box.top : box.height / 2
		const { scale, x, y } = this.view
		const k = Math.max(this.whole.scale / 2, Math.min(MOST_ZOOM, scale * factor)) / scale
		this.move({ scale: scale * k, x: px - (px - x) * k, y: py - (py - y) * k })
	}

	pan(dx, dy) {
		const { scale, x, y } = this.view
		this.move({ scale, x: x + dx, y: y + dy })
	}

	/** A part of the photo always stays in sight. */
	move({ scale, x, y }) {
		const hold = (v, room, size) => Math.max(IN_SIGHT - size, Math.min(room - IN_SIGHT, v))
		x = hold(x, this.root.clientWidth, this.width * scale)
		y = hold(y, this.root.clientHeight, this.height * scale)
		Object.assign(this, { view: { scale, x, y }, fitted: false })
		this.plate.style.transform = `translate(${x}px, ${y}px) scale(${scale})`
		this.moved?.()
		this.paint()
	}

	/** The point of the photo, in its pixels, under a point of the window. */
	toPhoto({ clientX, clientY }) {
		const { left, top } = this.root.getBoundingClientRect()
		const { scale, x, y } = this.view
		return [(clientX - left - x) / scale, (clientY - top - y) / scale]
	}

	/** The whole mask anew. */
	paint() {
		this.empty(this.mask)
		this.hatch.setTransform(new DOMMatrix().scale(1 / this.view.scale))
		this.extend(...this.ops)
	}

	/** Only the newest piece: painting stays as fast as at first. */
	extend(...ops) {
		const { mask, hatch, width, height } = this
		mask.save()
		mask.beginPath()
		mask.rect(0, 0, width, height)
		mask.clip()
		mask.fillStyle = mask.strokeStyle = hatch
		for (const op of ops) apply(mask, op, width, height)
		mask.restore()
		this.show()
	}

	/** Clears a context, and has it draw in the photo's pixels. */
	empty(context) {
		const { ratio, view } = this
		context.setTransform(1, 0, 0, 1, 0, 0)
		context.clearRect(0, 0, context.canvas.width, context.canvas.height)
		const k = ratio * view.scale
		context.setTransform(k, 0, 0, k, ratio * view.x, ratio * view.y)
	}

	show() {
		this.frame ??= requestAnimationFrame(() => {
			this.frame = null
			this.empty(this.cursor)
			this.hand.show(this.cursor, this.view.scale)
		})
	}
}

/** Stripes: a mask is seen not by colour alone. Opaque, since inverting counts on it. */
function hatching() {
	const tile = document.createElement("canvas").getContext("2d")
	tile.canvas.width = tile.canvas.height = 10
	tile.fillStyle = "#e0245e"
	tile.fillRect(0, 0, 10, 10)
	for (const x of [-10, 0, 10]) {
		tile.moveTo(x - 2, 12)
		tile.lineTo(x + 12, -2)
	}
	Object.assign(tile, { strokeStyle: "#fff", lineWidth: 2 }).stroke()
	return tile.createPattern(tile.canvas, "repeat")
}
