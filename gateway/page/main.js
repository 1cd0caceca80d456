/** Joins the page's parts: what people do, and what was there before a reload. */

import { call, hooks } from "./api.js";
import { askForKey, openShop } from "./dialogs.js";
import { $, each } from "./dom.js";
import { listen } from "./gestures.js";
import { cancel, generate, money, rejoin } from "./jobs.js";
import { showOptions } from "./options.js";
import { addPicture, deposit, dropPicture, loaded, take, takeResult } from "./photos.js";
import { compile, write } from "./prompt.js";
import { add, app, draw, hand, send, stage, step, useMask } from "./session.js";
import { keep, openSession, recall } from "./store.js";
import { showExtras, showHistory } from "./view.js";
import { preferredLanguage, speak } from "./words.js";

const form = $("form");
const mode = () => (app.sees("paint") ? "paint" : app.sees("result") ? "compare" : "");
const hear = (element, event, act) => element.addEventListener(event, act);

function choose(tool) {
	hand.choose(tool);
	draw();
}

function resize(size) {
	hand.size = $("size").value = Math.max(4, Math.min(240, size));
	stage.show();
}

function peek(pressed) {
	stage.peek = pressed;
	draw();
}

function compare(event) {
	$("compare").value = (stage.toPhoto(event)[0] / stage.width) * 100;
	draw();
}

function reset() {
	if (!send("reset", { photo: null, extras: [], raster: null })) return;
	keep("photo", null);
	write({ text: "", edits: {}, prompt: null });
	showForm();
}

const presses = {
	"mask-undo": () => step(-1),
	redo: () => step(1),
	clear: () => add({ t: "none" }),
	invert: () => add({ t: "invert" }),
	"mask-whole": () => add({ t: "all" }),
	"zoom-in": () => stage.zoom(1.4),
	"zoom-out": () => stage.zoom(1 / 1.4),
	"zoom-fit": () => stage.fit(),
	rebuild: () => write({ prompt: null }),
	cancel,
	reset,
	onward: takeResult,
	change: () => send("change"),
	another() {
		write({ lock: false });
		generate();
	},
	settings: () => navigator.clipboard.writeText(JSON.stringify(app.result)),
	credits: () => openShop(money),
	"lang-th": () => useLanguage("th"),
	"lang-en": () => useLanguage("en"),
};

function wire() {
	for (const [name, act] of Object.entries(presses)) hear($(name), "click", act);
	each("[data-tool]", (button) => hear(button, "click", () => choose(button.dataset.tool)));
	each("[type=file]", (input) => {
		input.accept = "image/jpeg,image/png,image/webp,image/heic";
		hear(input, "change", () => {
			(input.id === "extra" ? addPicture : take)(input.files[0]);
			input.value = "";
		});
	});
	hear(window, "dragover", (event) => event.preventDefault());
	hear(window, "drop", (event) => {
		event.preventDefault();
		take(event.dataTransfer.files[0]);
	});
	hear(window, "paste", ({ clipboardData }) => take(clipboardData.files[0]));
	hear(window, "keydown", (event) => {
		const key = event.key.toLowerCase();
		if (!(event.ctrlKey || event.metaKey) || !/^[zy]$/.test(key)) return;
		if (mode() !== "paint" || event.target.matches("input:not([type]), textarea")) return;
		event.preventDefault();
		step(key === "y" || event.shiftKey ? 1 : -1);
	});
	listen(stage, hand, { mode, compare, choose, peek, resize: (factor) => resize(hand.size * factor) });
	stage.moved = draw;
	hear($("size"), "input", ({ target }) => resize(Number(target.value)));
	hear($("compare"), "input", draw);
	for (const event of ["pointerdown", "pointerup", "pointerleave"]) {
		hear($("peek"), event, () => peek(event === "pointerdown"));
	}
	hear($("compiled-prompt"), "input", ({ target }) => write({ prompt: target.value }));
	hear(form, "input", ({ target: { name, type, checked, value } }) => {
		if (name) write({ [name]: type === "checkbox" ? checked : value });
	});
	hear(form, "submit", (event) => {
		event.preventDefault();
		generate();
	});
}

function showForm() {
	for (const element of form.elements) {
		if (element.type === "checkbox") element.checked = app.form.lock;
		else if (element.name) element.value = app.form[element.name];
	}
	showOptions(app.categories, app.form.edits, () => write({}));
	draw();
}

function useLanguage(name) {
	speak(name);
	showForm();
}

async function restore() {
	await openSession();
	Object.assign(app.form, await recall("form"));
	for (const name of ["history", "extras", "photo"]) app[name] = (await recall(name)) ?? app[name];
	const { photo } = app;
	const { ops, done } = (await recall("mask")) ?? app.mask;
	if (photo) {
		// The server keeps an upload for an hour only.
		await loaded(photo.preview_url).catch(async () => Object.assign(photo, await deposit(photo.file)));
		useMask(ops, done);
	}
	const job = photo && (await recall("job"));
	if (job) rejoin(job);
	else send(photo ? "restore" : "begin");
}

hooks.askForKey = askForKey;
speak(preferredLanguage());
wire();
await restore().catch((problem) => send("begin", { problem, photo: null }));
await call("api/options").then((answer) => Object.assign(app, answer), (problem) => (app.problem = problem));
showForm();
compile();
money();
