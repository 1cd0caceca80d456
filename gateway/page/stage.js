/** The photo and what is painted on it, at any zoom. The canvases have the window's size, never the
 * photo's: phones limit them. */

import { apply } from "./mask.js";

const MARGIN = 12;
const IN_SIGHT = 60;
const MOST_ZOOM = 32;
const newContext = () => document.createElement("canvas").getContext("2d");

export class Stage {
	width = 1;
	height = 1;
	ops = [];
	view = { scale: 1, x: 0, y: 0 };
	fitted = true;

	/** `plate` holds the pictures, one unit a photo pixel; `canvas` lies over all of `root`. */
	constructor(root, plate, canvas) {
		const screen = canvas.getContext("2d");
		Object.assign(this, { root, plate, screen, layer: newContext(), spare: newContext(), hatch: hatching() });
		new ResizeObserver(() => this.resize()).observe(root);
	}

	setPhoto(width, height) {
		if (this.width === width && this.height === height) return;
		Object.assign(this, { width, height });
		Object.assign(this.plate.style, { width: `${width}px`, height: `${height}px` });
		this.fit();
	}

	resize() {
		this.ratio = Math.min(devicePixelRatio, 2);
		for (const { canvas } of [this.screen, this.layer, this.spare]) {
			canvas.width = this.root.clientWidth * this.ratio;
			canvas.height = this.root.clientHeight * this.ratio;
		}
		if (this.fitted) this.fit();
		else this.move(this.view);
	}

	get fitScale() {
		const { clientWidth, clientHeight } = this.root;
		const room = Math.min((clientWidth - 2 * MARGIN) / this.width, (clientHeight - 2 * MARGIN) / this.height);
		return Math.max(room, 0.001);
	}

	fit() {
		const { root, width, height, fitScale: scale } = this;
		this.move({ scale, x: (root.clientWidth - width * scale) / 2, y: (root.clientHeight - height * scale) / 2 });
		this.fitted = true;
	}

	/** Zooms about a point of the window, or about the middle. */
	zoom(factor, clientX, clientY) {
		const box = this.root.getBoundingClientRect();
		const px = clientX === undefined ? box.width / 2 : clientX - box.left;
		const py = clientY === undefined ? box.height / 2 : clientY - box.top;
		const { scale, x, y } = this.view;
		const k = Math.max(this.fitScale / 2, Math.min(MOST_ZOOM, scale * factor)) / scale;
		this.move({ scale: scale * k, x: px - (px - x) * k, y: py - (py - y) * k });
	}

	pan(dx, dy) {
		const { scale, x, y } = this.view;
		this.move({ scale, x: x + dx, y: y + dy });
	}

	/** A part of the photo always stays in sight. */
	move({ scale, x, y }) {
		const hold = (v, room, size) => Math.max(IN_SIGHT - size, Math.min(room - IN_SIGHT, v));
		x = hold(x, this.root.clientWidth, this.width * scale);
		y = hold(y, this.root.clientHeight, this.height * scale);
		Object.assign(this, { view: { scale, x, y }, fitted: false });
		this.plate.style.transform = `translate(${x}px, ${y}px) scale(${scale})`;
		this.plate.classList.toggle("close", scale > 4);
		this.moved?.();
		this.paint();
	}

	/** The point of the photo, in its pixels, under a point of the window. */
	toPhoto({ clientX, clientY }) {
		const { left, top } = this.root.getBoundingClientRect();
		const { scale, x, y } = this.view;
		return [(clientX - left - x) / scale, (clientY - top - y) / scale];
	}

	/** Paints the whole mask anew. */
	paint() {
		clear(this.layer);
		this.extend(...this.ops);
	}

	/** Adds only the newest piece of a stroke: painting stays as fast as at first. */
	extend(...ops) {
		const { layer, width, height } = this;
		layer.save();
		this.place(layer);
		layer.beginPath();
		layer.rect(0, 0, width, height);
		layer.clip();
		for (const op of ops) apply(layer, op, width, height);
		layer.restore();
		this.show();
	}

	/** Has a context draw in the photo's pixels. */
	place(context) {
		const { ratio, view } = this;
		const k = ratio * view.scale;
		context.setTransform(k, 0, 0, k, ratio * view.x, ratio * view.y);
	}

	show() {
		this.frame ??= requestAnimationFrame(() => {
			this.frame = null;
			const { screen, ratio, view } = this;
			clear(screen);
			if (!this.masked || !screen.canvas.width || !screen.canvas.height) return;
			// Two lines around it and hatching: seen on any photo, and not by colour alone.
			this.tint("#000b", 2.5 * ratio);
			this.tint("#fff", 1.25 * ratio);
			this.tint("#ff3d6e47", 0);
			this.hatch.setTransform(new DOMMatrix([ratio, 0, 0, ratio, view.x * ratio, view.y * ratio]));
			this.tint(this.hatch, 0);
			this.place(screen);
			this.hand.show(screen, view.scale);
		});
	}

	/** The mask in one colour or, with a `reach` in pixels, the line around it. */
	tint(colour, reach) {
		const { spare, screen, layer: { canvas } } = this;
		clear(spare);
		for (const d of [-reach, reach]) {
			spare.drawImage(canvas, d, 0);
			spare.drawImage(canvas, 0, d);
		}
		spare.globalCompositeOperation = "source-in";
		spare.fillStyle = colour;
		spare.fillRect(0, 0, canvas.width, canvas.height);
		spare.globalCompositeOperation = "destination-out";
		if (reach) spare.drawImage(canvas, 0, 0);
		screen.drawImage(spare.canvas, 0, 0);
	}
}

function clear(context) {
	context.globalCompositeOperation = "source-over";
	context.setTransform(1, 0, 0, 1, 0, 0);
	context.clearRect(0, 0, context.canvas.width, context.canvas.height);
}

function hatching() {
	const tile = newContext();
	tile.canvas.width = tile.canvas.height = 10;
	for (const x of [-10, 0, 10]) {
		tile.moveTo(x - 2, 12);
		tile.lineTo(x + 12, -2);
	}
	Object.assign(tile, { strokeStyle: "#0006", lineWidth: 3 }).stroke();
	Object.assign(tile, { strokeStyle: "#fffd", lineWidth: 1.2 }).stroke();
	return tile.createPattern(tile.canvas, "repeat");
}
