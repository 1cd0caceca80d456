/** The hand that paints: turns points on the photo into operations of the mask. */

const TAP = 6
const HOME = 22
const round = (v) => Math.round(v * 10) / 10

export class Hand {
	tool = "brush"
	size = 60
	at = null
	points = []

	constructor(stage, onOp) {
		Object.assign(this, { stage, onOp })
	}

	/** In photo pixels; the size is one of the screen, so zooming in makes the brush finer. */
	get radius() {
		return this.size / 2 / this.stage.view.scale
	}

	get isBrush() {
		return /brush|eraser/.test(this.tool)
	}

	choose(tool) {
		this.tool = tool
		this.drop()
	}

	hover(point) {
		this.at = point
		this.stage.show()
	}

	/** Begins a shape, or sets the next corner of one that taps have begun. */
	down(point, subtract) {
		const begun = this.points.length > 0
		Object.assign(this, { erase: this.tool === "eraser" || subtract, begun, dragged: false })
		this.points.push(point)
		if (this.isBrush) this.stage.extend(this.op(this.points))
	}

	drag(point) {
		const last = this.points.at(-1)
		const far = this.apart(point, last)
		this.dragged ||= far > TAP
		if (this.isBrush && far > 1) this.stage.extend(this.op([last, point]))
		if ((this.isBrush && far > 1) || (this.tool === "lasso" && this.dragged)) this.points.push(point)
		this.hover(point)
	}

	/** A drag ends a shape; taps set its corners one by one, so that nothing needs a drag. */
	up(point) {
		const { points, begun, dragged } = this
		if (!points.length) return
		const [[x, y]] = points
		const home = points.length > 3 && this.apart(point, points[0]) < HOME
		if (this.isBrush || (this.tool === "lasso" && (begun ? home : dragged))) this.finish(points)
		if (this.tool === "rect" && (begun || dragged)) this.finish([[x, y], [point[0], y], point, [x, point[1]]])
		this.hover(point)
	}

	apart([ax, ay], [bx, by]) {
		return Math.hypot(ax - bx, ay - by) * this.stage.view.scale
	}

	drop() {
		this.points = []
		this.stage.paint()
	}

	finish(points) {
		this.points = []
		this.onOp(this.op(points))
	}

	op(points) {
		const { erase, isBrush } = this
		return { t: isBrush ? "brush" : "area", r: round(this.radius), p: points.flat().map(round), erase }
	}

	/** Draws the brush's true outline or a crosshair, and a shape in the making. */
	show(context, scale) {
		if (!this.at) return
		const [x, y] = this.at
		const [first] = this.points
		const reach = 9 / scale
		context.beginPath()
		if (this.isBrush) context.arc(x, y, this.radius, 0, 7)
		else {
			context.rect(x - reach, y, 2 * reach, 0)
			context.rect(x, y - reach, 0, 2 * reach)
			if (first && this.tool === "rect") context.rect(...first, x - first[0], y - first[1])
			else for (const point of [...this.points, this.at]) context.lineTo(...point)
		}
		for (const [strokeStyle, width] of [["#000b", 3], ["#fff", 1.5]]) {
			Object.assign(context, { strokeStyle, lineWidth: width / scale }).stroke()
		}
	}
}
