/** The hand that paints: turns points on the photo into operations of the mask. */

const TAP = 6;
const HOME = 22;
const round = (v) => Math.round(v * 10) / 10;

export class Hand {
	tool = "brush";
	size = 60;
	at = null;
	points = [];

	/** `onOp` takes a finished operation. */
	constructor(stage, onOp) {
		Object.assign(this, { stage, onOp });
	}

	/** In photo pixels; the size is one of the screen, so zooming in makes the brush finer. */
	get radius() {
		return this.size / 2 / this.stage.view.scale;
	}

	get isBrush() {
		return this.tool === "brush" || this.tool === "eraser";
	}

	choose(tool) {
		this.tool = tool;
		this.drop();
	}

	hover(point) {
		this.at = point;
		this.stage.show();
	}

	/** Begins a stroke or a shape, or sets the next corner of a shape that taps have begun. */
	down(point, subtract) {
		const begun = this.points.length > 0;
		Object.assign(this, { erase: this.tool === "eraser" || subtract, start: point, dragged: false, begun });
		this.points.push(point);
		if (this.isBrush) this.stage.extend(this.op(this.points));
	}

	drag(point) {
		const last = this.points.at(-1);
		this.dragged ||= this.apart(point, this.start) > TAP;
		if (this.apart(point, last) > 1) {
			if (this.isBrush) this.stage.extend(this.op([last, point]));
			if (this.isBrush || (this.tool === "lasso" && this.dragged)) this.points.push(point);
		}
		this.hover(point);
	}

	/** A drag ends a shape; taps set its corners one by one, so that nothing needs a drag. */
	up(point) {
		const { points, begun, dragged, tool } = this;
		if (!points.length) return;
		const [first] = points;
		const home = points.length > 3 && this.apart(point, first) < HOME;
		const corners = [first, [point[0], first[1]], point, [first[0], point[1]]];
		if (this.isBrush) this.finish(points);
		else if (tool === "rect" ? begun || dragged : begun ? home : dragged) this.finish(tool === "rect" ? corners : points);
		this.hover(point);
	}

	/** How far two points are apart on the screen. */
	apart([ax, ay], [bx, by]) {
		return Math.hypot(ax - bx, ay - by) * this.stage.view.scale;
	}

	/** Forgets what was begun. */
	drop() {
		this.points = [];
		this.stage.paint();
	}

	finish(points) {
		this.points = [];
		this.onOp(this.op(points));
	}

	op(points) {
		const shape = this.isBrush ? { t: "brush", r: round(this.radius) } : { t: "area" };
		return { ...shape, p: points.flat().map(round), erase: this.erase };
	}

	/** Draws the brush's true outline or a crosshair, and a shape in the making. */
	show(context, scale) {
		if (!this.at) return;
		const [x, y] = this.at;
		const [first, ...rest] = this.points;
		const reach = 9 / scale;
		context.beginPath();
		if (this.isBrush) context.arc(x, y, this.radius, 0, 7);
		else {
			context.rect(x - reach, y, 2 * reach, 0);
			context.rect(x, y - reach, 0, 2 * reach);
			if (first && this.tool === "rect") context.rect(...first, x - first[0], y - first[1]);
			else if (first) for (const point of [first, ...rest, this.at]) context.lineTo(...point);
		}
		Object.assign(context, { strokeStyle: "#000b", lineWidth: 3 / scale }).stroke();
		Object.assign(context, { strokeStyle: "#fff", lineWidth: 1.5 / scale }).stroke();
	}
}
