/** Photos on their way to the server, and back as it sees them. */

import { Problem, call } from "./api.js";
import { app, draw, send, useMask } from "./session.js";
import { keep } from "./store.js";

let uploading = new AbortController();

export async function take(file) {
	if (!file || !send("photo")) return;
	uploading.abort();
	const { signal } = (uploading = new AbortController());
	try {
		app.photo = await deposit(file, signal);
		keep("photo", app.photo);
		keepExtras([]);
		useMask([]);
		send("accept");
	} catch (problem) {
		if (!signal.aborted) send(app.photo ? "keep" : "refuse", { problem });
	}
}

/** Uploads, and has the server's upright preview at hand before anything shows it. */
export async function deposit(file, signal) {
	const name = file.name || "photo.png";
	const form = new FormData();
	form.append("image", file, name);
	const sent = await call("api/uploads", form, signal);
	await loaded(sent.preview_url).catch(() => {});
	return { file, name, ...sent };
}

export function loaded(url) {
	const image = new Image();
	image.src = url;
	return image.decode();
}

function keepExtras(extras) {
	app.extras = extras;
	keep("extras", extras);
	draw();
}

/** The second and the third picture, which the words may speak of. */
export async function addPicture(file) {
	app.problem = null;
	try {
		if (file) app.extras.push(await deposit(file));
	} catch (problem) {
		app.problem = problem;
	}
	keepExtras(app.extras);
}

export const dropPicture = (dropped) => keepExtras(app.extras.filter((one) => one !== dropped));

export async function takeResult() {
	const { result_url: url, name } = app.result;
	try {
		const blob = await (await fetch(url)).blob();
		take(new File([blob], name, { type: blob.type }));
	} catch {
		app.problem = new Problem("network");
		draw();
	}
}
