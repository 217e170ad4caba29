// The page: asks the server it came from, and nobody else. Text from files and models is only ever textContent.
"use strict";

const part = (id) => document.getElementById(id);
const percent = new Intl.NumberFormat("en", { style: "percent", minimumFractionDigits: 1, maximumFractionDigits: 1 });
const TOP = 5;
const TRIES = 4; // of a busy server
const SPEAK_MS = 4000; // between two changes that a screen reader is told of while the camera runs

let info = null;
let shownURL = null;
let asked = null; // AbortController of the picture in work
let events = null; // EventSource of the camera
let spoken = { label: "", at: 0 };

class Refused extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

async function ask(path, options = {}) {
  for (let tries = 1; ; tries += 1) {
    const answer = await fetch(path, options);
    if (answer.ok) return answer;
    if (answer.status === 503 && tries < TRIES) {
      part("status").textContent = "The server is busy; trying again …";
      await new Promise((done) => setTimeout(done, 1000 * Number(answer.headers.get("Retry-After") || 1)));
      continue;
    }
    throw new Refused(answer.status, await explanation(answer));
  }
}

async function explanation(answer) {
  try {
    return (await answer.json()).error.message;
  } catch {
    return `The server answered ${answer.status}.`;
  }
}

function say(text) {
  part("status").textContent = text;
}

function complain(text) {
  part("error").textContent = text;
}

function worded(error) {
  if (error instanceof Refused) return error.message;
  return "The server does not answer. Is it still running?";
}

// ---- the answer

function showAnswer(answer, total = null) {
  const rows = answer.predictions.map((prediction) => {
    const row = document.createElement("li");
    const words = document.createElement("div");
    words.className = "row";
    words.append(spanOf("name", prediction.label), spanOf("share", percent.format(prediction.score)));
    const track = document.createElement("div");
    track.className = "track";
    track.setAttribute("aria-hidden", "true");
    const bar = document.createElement("div");
    bar.className = "bar";
    bar.style.width = `${Math.max(0, Math.min(100, prediction.score * 100))}%`;
    track.append(bar);
    row.append(words, track);
    return row;
  });
  part("classes").replaceChildren(...rows);
  const { preprocess, inference } = answer.milliseconds;
  const all = total === null ? "" : `; ${ms(total)} in all, with the network`;
  part("times").textContent = `${ms(inference)} for the model, ${ms(preprocess)} for decoding and resizing${all}`;
  part("answer").hidden = false;
  part("answer").classList.remove("busy");
}

function spanOf(name, text) {
  const span = document.createElement("span");
  span.className = name;
  span.textContent = text;
  span.dir = "auto";
  return span;
}

function ms(value) {
  return `${value < 10 ? value.toFixed(1) : value.toFixed(0)} ms`;
}

function best(answer) {
  const first = answer.predictions[0];
  return `${first.label}, ${percent.format(first.score)}`;
}

function clear() {
  complain("");
  say("");
  part("spoken").textContent = "";
  part("drop").classList.remove("small");
  part("again").hidden = true;
  part("answer").hidden = true;
  part("view").hidden = true;
  if (shownURL !== null) URL.revokeObjectURL(shownURL);
  shownURL = null;
}

// ---- one picture

async function classify(file) {
  asked?.abort();
  const mine = new AbortController();
  asked = mine;
  showMode("picture");
  clear();
  showPicture(file);
  if (file.size > info.limits.upload_bytes) {
    complain(`${file.name || "The picture"} has ${megabytes(file.size)}; the server takes ${megabytes(info.limits.upload_bytes)} at most.`);
    return;
  }
  say("Asking …");
  const start = performance.now();
  try {
    const answer = await (await ask(`classify?top_k=${TOP}`, { method: "POST", body: file, signal: mine.signal })).json();
    showAnswer(answer, performance.now() - start);
    say("");
    part("spoken").textContent = best(answer);
    part("caption").textContent = [file.name, `${answer.image.width} × ${answer.image.height}`].filter(Boolean).join(", ");
  } catch (error) {
    if (mine.signal.aborted) return;
    say("");
    refused(error);
  }
}

function refused(error) {
  if (error instanceof Refused && error.status === 401) showLogin();
  else complain(worded(error));
}

function megabytes(bytes) {
  return `${(bytes / 1e6).toFixed(1)} MB`;
}

function showPicture(file) {
  shownURL = URL.createObjectURL(file);
  const image = part("shown");
  image.onerror = () => { part("view").hidden = true; }; // a format that this browser does not know
  image.alt = file.name ? `The picture ${file.name}` : "The pasted picture";
  image.src = shownURL;
  part("caption").textContent = file.name;
  part("view").hidden = false;
  part("drop").classList.add("small");
}

function pictureOf(transfer) {
  const files = [...(transfer?.files ?? [])];
  return files.find((file) => file.type.startsWith("image/")) ?? files[0];
}

function listenForPictures() {
  part("file").addEventListener("change", () => {
    const file = part("file").files[0];
    part("file").value = ""; // the same file can be chosen again
    if (file) classify(file);
  });
  document.addEventListener("paste", (event) => {
    const file = pictureOf(event.clipboardData);
    if (!file || part("work").hidden) return;
    event.preventDefault();
    classify(file);
  });
  document.addEventListener("dragover", (event) => {
    event.preventDefault();
    part("drop").classList.add("over");
  });
  document.addEventListener("dragleave", (event) => {
    if (event.relatedTarget === null) part("drop").classList.remove("over");
  });
  document.addEventListener("drop", (event) => {
    event.preventDefault();
    part("drop").classList.remove("over");
    const file = pictureOf(event.dataTransfer);
    if (part("work").hidden) return;
    if (file) classify(file);
    else complain("That was no file. Save the picture first, or copy and paste it.");
  });
}

// ---- the camera

function showMode(mode) {
  const camera = mode === "camera";
  if (!camera) stopCamera();
  part("drop").hidden = camera;
  part("mode-camera").setAttribute("aria-pressed", String(camera));
  part("mode-picture").setAttribute("aria-pressed", String(!camera));
}

function stopCamera() {
  events?.close();
  events = null;
}

function watchCamera() {
  asked?.abort();
  stopCamera();
  showMode("camera");
  clear();
  say("Opening the camera …");
  const source = new EventSource("camera/events");
  events = source;
  const image = part("shown");
  image.onerror = null;
  image.alt = "What the camera sees";
  let loading = false;
  source.addEventListener("open", () => say("Waiting for the camera …"));
  source.addEventListener("frame", (event) => {
    if (loading) return; // a slow network shows fewer frames, not older ones
    loading = true;
    showFrame(source, JSON.parse(event.data)).catch(() => {}).finally(() => { loading = false; });
  });
  source.addEventListener("end", () => over("The camera has no more frames."));
  source.addEventListener("failed", (event) => over("", JSON.parse(event.data).message));
  source.addEventListener("error", () => {
    if (source.readyState === EventSource.CLOSED) lost();
    else say("The connection is lost; trying again …");
  });
}

async function showFrame(source, answer) {
  const picture = await fetch(`camera/frame.jpg?number=${answer.frame}`);
  if (!picture.ok) return; // not kept any more: the next event is of a newer one
  const url = URL.createObjectURL(await picture.blob());
  if (events !== source) {
    URL.revokeObjectURL(url);
    return;
  }
  if (shownURL !== null) URL.revokeObjectURL(shownURL);
  shownURL = url;
  part("shown").src = url;
  part("view").hidden = false;
  part("caption").textContent = `${answer.image.width} × ${answer.image.height}, frame ${answer.frame}`;
  say("");
  showAnswer(answer);
  speak(answer);
}

async function lost() {
  try {
    await ask("info");
    over("", "The camera cannot be watched now.");
  } catch (error) {
    over("");
    refused(error);
  }
}

function over(words, wrong = "") {
  stopCamera();
  say(words);
  complain(wrong);
  part("again").hidden = false;
}

function speak(answer) {
  const now = performance.now();
  const { label } = answer.predictions[0];
  if (label === spoken.label || now - spoken.at < SPEAK_MS) return;
  spoken = { label, at: now };
  part("spoken").textContent = best(answer);
}

// ---- beginning

function showLogin(wrong = "") {
  stopCamera();
  part("work").hidden = true;
  part("login").hidden = false;
  part("login-error").textContent = wrong;
  part("token").focus();
}

async function login(token) {
  try {
    await ask("login", { method: "POST", body: JSON.stringify({ token }) });
  } catch (error) {
    showLogin(worded(error));
    return;
  }
  part("token").value = "";
  await begin();
}

async function begin() {
  try {
    info = await (await ask("info")).json();
  } catch (error) {
    if (error instanceof Refused && error.status === 401) showLogin();
    else part("facts").textContent = worded(error);
    return;
  }
  document.title = info.model;
  part("model").textContent = info.model;
  const precision = info.precision === "unknown" ? "" : `${info.precision} `;
  part("facts").textContent =
    `${precision}${info.format}, ${info.classes} classes, ${info.input.width} × ${info.input.height} pixels; ` +
    `${info.backend}, ${info.threads} ${info.threads === 1 ? "thread" : "threads"}`;
  part("version").textContent = `mbn-deploy ${info.version}`;
  part("login").hidden = true;
  part("work").hidden = false;
  part("modes").hidden = !info.camera;
  if (info.camera) watchCamera();
}

function tokenOfAddress() {
  const token = new URLSearchParams(location.hash.slice(1)).get("token");
  if (token !== null) history.replaceState(null, "", location.pathname); // no token in history or bookmarks
  return token;
}

listenForPictures();
part("login").addEventListener("submit", (event) => {
  event.preventDefault();
  login(part("token").value);
});
part("mode-picture").addEventListener("click", () => { showMode("picture"); clear(); });
part("mode-camera").addEventListener("click", watchCamera);
part("again").addEventListener("click", watchCamera);

function enter() {
  const given = tokenOfAddress();
  if (given === null) begin();
  else login(given);
}
window.addEventListener("hashchange", () => {
  if (location.hash) enter(); // the address with the token, opened where the page is already
});
enter();
