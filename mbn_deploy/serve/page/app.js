// The page. It talks only to the server that it came from. Text from files and models is set as textContent only.
"use strict";

const element = (id) => document.getElementById(id);
const percent = new Intl.NumberFormat("en", { style: "percent", minimumFractionDigits: 1, maximumFractionDigits: 1 });
const TRIES = 4; // while the server is busy
const SPEAK_MS = 4000; // at least, between two announcements to screen readers while the camera runs

let info = null;
let shownURL = null;
let pending = null; // AbortController of the image that is being classified
let events = null; // EventSource of the camera
let spoken = { what: "", at: 0 };

class ServerError extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

async function request(path, options = {}) {
  for (let tries = 1; ; tries += 1) {
    const response = await fetch(path, options);
    if (response.ok) return response;
    if (response.status === 503 && tries < TRIES) {
      showStatus("The server is busy; trying again …");
      await new Promise((done) => setTimeout(done, 1000 * Number(response.headers.get("Retry-After") || 1)));
      continue;
    }
    throw new ServerError(response.status, await errorMessage(response));
  }
}

async function errorMessage(response) {
  try {
    const { message } = (await response.json()).error;
    return message.charAt(0).toUpperCase() + message.slice(1);
  } catch {
    return `The server answered with the error ${response.status}.`;
  }
}

function showStatus(text) {
  element("status").textContent = text;
}

function showError(text) {
  element("error").textContent = text;
}

function messageOf(error) {
  if (error instanceof ServerError) return error.message;
  return "The server does not respond. Is it still running?";
}

// ---- the result

// A renderer for each meaning of the answers: how they are shown, and said to screen readers.
const names = { show: (result) => list(result.predictions.map(nameRow)), say: (result) => nameText(result.predictions[0]) };
const RENDERERS = {
  classes: names,
  binary: names,
  labels: {
    show: (result) => (result.predictions.length ? names.show(result) : note("No label reaches 50 %.")),
    say: (result) => result.predictions.map(nameText).join("; ") || "No label reaches 50 %",
  },
  values: {
    show: (result) => list(result.values.map(valueRow)),
    say: (result) => result.values.map((value) => `${value.label}: ${number(value.value)}`).join("; "),
  },
  embedding: { show: (result) => embeddingView(result.embedding), say: (result) => `${result.embedding.length} features` },
};

const OUTPUTS = {
  classes: (count) => `${count} classes`,
  labels: (count) => `${count} independent labels`,
  binary: () => "yes or no",
  values: (count) => `${count} ${count === 1 ? "value" : "values"}`,
  embedding: (count) => `${count} features`,
};

let previous = null; // the vector of the image before, to compare with

function showResult(result, total = null) {
  element("answers").replaceChildren(...RENDERERS[result.meaning].show(result));
  const { preprocess, inference } = result.milliseconds;
  const roundTrip = total === null ? "" : `, ${ms(total)} round trip`;
  element("times").textContent = `${ms(inference)} inference, ${ms(preprocess)} decoding and resizing${roundTrip}`;
  element("answer").hidden = false;
}

function list(rows) {
  const made = document.createElement("ol");
  made.id = "classes";
  made.append(...rows);
  return [made];
}

function nameRow({ label, score }) {
  const row = rowOf(label, percent.format(score));
  const track = document.createElement("div");
  track.className = "track";
  track.setAttribute("aria-hidden", "true");
  const bar = document.createElement("div");
  bar.className = "bar";
  bar.style.width = `${Math.max(0, Math.min(100, score * 100))}%`;
  track.append(bar);
  row.append(track);
  return row;
}

function valueRow({ label, value }) {
  return rowOf(label, number(value));
}

function rowOf(name, text) {
  const row = document.createElement("li");
  const texts = document.createElement("div");
  texts.className = "row";
  texts.append(spanOf("name", name), spanOf("share", text));
  row.append(texts);
  return row;
}

function note(text) {
  const made = document.createElement("p");
  made.textContent = text;
  return [made];
}

function embeddingView(vector) {
  const rows = [rowOf("Features", String(vector.length)), rowOf("Length", number(Math.hypot(...vector)))];
  if (previous !== null && previous.length === vector.length) {
    rows.push(rowOf("Cosine similarity to the image before", number(cosine(previous, vector))));
  }
  previous = vector;
  const text = document.createElement("textarea");
  text.id = "vector";
  text.readOnly = true;
  text.rows = 5;
  text.setAttribute("aria-label", "The feature vector as JSON");
  text.value = JSON.stringify(vector.map((feature) => Number(feature.toPrecision(6))));
  text.addEventListener("focus", () => text.select());
  return [...list(rows), text];
}

function cosine(a, b) {
  return a.reduce((sum, feature, index) => sum + feature * b[index], 0) / (Math.hypot(...a) * Math.hypot(...b));
}

function number(value) {
  return String(Number(value.toPrecision(5)));
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

function nameText({ label, score }) {
  return `${label}, ${percent.format(score)}`;
}

function spokenText(result) {
  return RENDERERS[result.meaning].say(result);
}

function clear() {
  showError("");
  showStatus("");
  element("spoken").textContent = "";
  element("drop").classList.remove("small");
  element("again").hidden = true;
  element("answer").hidden = true;
  element("view").hidden = true;
  if (shownURL !== null) URL.revokeObjectURL(shownURL);
  shownURL = null;
}

// ---- one image

async function classify(file) {
  pending?.abort();
  const mine = new AbortController();
  pending = mine;
  showMode("image");
  clear();
  showImage(file);
  if (file.size > info.limits.upload_bytes) {
    showError(`${file.name || "The image"} has ${megabytes(file.size)}; the server accepts at most ${megabytes(info.limits.upload_bytes)}.`);
    return;
  }
  showStatus("Classifying …");
  const began = performance.now();
  try {
    const result = await (await request(`classify`, { method: "POST", body: file, signal: mine.signal })).json();
    showResult(result, performance.now() - began);
    showStatus("");
    element("spoken").textContent = spokenText(result);
    element("caption").textContent = [file.name, `${result.image.width} × ${result.image.height}`].filter(Boolean).join(", ");
  } catch (error) {
    if (mine.signal.aborted) return;
    showStatus("");
    handleError(error);
  }
}

function handleError(error) {
  if (error instanceof ServerError && error.status === 401) showLogin();
  else showError(messageOf(error));
}

function megabytes(bytes) {
  return `${(bytes / 1e6).toFixed(1)} MB`;
}

function showImage(file) {
  shownURL = URL.createObjectURL(file);
  const image = element("shown");
  image.onerror = () => { element("view").hidden = true; }; // a format that this browser cannot show
  image.alt = file.name ? `The image ${file.name}` : "The pasted image";
  image.src = shownURL;
  element("caption").textContent = file.name;
  element("view").hidden = false;
  element("drop").classList.add("small");
}

function imageOf(transfer) {
  const files = [...(transfer?.files ?? [])];
  return files.find((file) => file.type.startsWith("image/")) ?? files[0];
}

function listenForImages() {
  element("file").addEventListener("change", () => {
    const file = element("file").files[0];
    element("file").value = ""; // the same file can be chosen again
    if (file) classify(file);
  });
  document.addEventListener("paste", (event) => {
    const file = imageOf(event.clipboardData);
    if (!file || element("work").hidden) return;
    event.preventDefault();
    classify(file);
  });
  document.addEventListener("dragover", (event) => {
    event.preventDefault();
    element("drop").classList.add("over");
  });
  document.addEventListener("dragleave", (event) => {
    if (event.relatedTarget === null) element("drop").classList.remove("over");
  });
  document.addEventListener("drop", (event) => {
    event.preventDefault();
    element("drop").classList.remove("over");
    const file = imageOf(event.dataTransfer);
    if (element("work").hidden) return;
    if (file) classify(file);
    else showError("This is not a file. Save the image first, or copy and paste it.");
  });
}

// ---- the camera

function showMode(mode) {
  const camera = mode === "camera";
  if (!camera) stopCamera();
  element("drop").hidden = camera;
  element("mode-camera").setAttribute("aria-pressed", String(camera));
  element("mode-image").setAttribute("aria-pressed", String(!camera));
}

function stopCamera() {
  events?.close();
  events = null;
}

function watchCamera() {
  pending?.abort();
  stopCamera();
  showMode("camera");
  clear();
  showStatus("Opening the camera …");
  const source = new EventSource("camera/events");
  events = source;
  const image = element("shown");
  image.onerror = null;
  image.alt = "The camera's current frame";
  let loading = false;
  source.addEventListener("open", () => showStatus("Waiting for the camera …"));
  source.addEventListener("frame", (event) => {
    if (loading) return; // a slow network drops frames instead of falling behind
    loading = true;
    showFrame(source, JSON.parse(event.data)).catch(() => {}).finally(() => { loading = false; });
  });
  source.addEventListener("end", () => endCamera("The camera has no more frames."));
  source.addEventListener("failed", (event) => endCamera("", JSON.parse(event.data).message));
  source.addEventListener("error", () => {
    if (source.readyState === EventSource.CLOSED) explainLoss();
    else showStatus("The connection was lost; trying again …");
  });
}

async function showFrame(source, result) {
  const response = await fetch(`camera/frame.jpg?number=${result.frame}`);
  if (!response.ok) return; // no longer kept: the next event names a newer one
  const url = URL.createObjectURL(await response.blob());
  if (events !== source) {
    URL.revokeObjectURL(url);
    return;
  }
  if (shownURL !== null) URL.revokeObjectURL(shownURL);
  shownURL = url;
  element("shown").src = url;
  element("view").hidden = false;
  element("caption").textContent = `${result.image.width} × ${result.image.height}, frame ${result.frame}`;
  showStatus("");
  showResult(result);
  announce(result);
}

async function explainLoss() {
  try {
    await request("info");
    endCamera("", "The camera is not available now.");
  } catch (error) {
    endCamera("");
    handleError(error);
  }
}

function endCamera(status, error = "") {
  stopCamera();
  showStatus(status);
  showError(error);
  element("again").hidden = false;
}

function announce(result) {
  const now = performance.now();
  const what = result.predictions?.map(({ label }) => label).slice(0, result.meaning === "labels" ? undefined : 1).join() ?? spokenText(result);
  if (what === spoken.what || now - spoken.at < SPEAK_MS) return;
  spoken = { what, at: now };
  element("spoken").textContent = spokenText(result);
}

// ---- start

function showLogin(error = "") {
  stopCamera();
  element("work").hidden = true;
  element("login").hidden = false;
  element("login-error").textContent = error;
  element("token").focus();
}

async function login(token) {
  try {
    await request("login", { method: "POST", body: JSON.stringify({ token }) });
  } catch (error) {
    showLogin(messageOf(error));
    return;
  }
  element("token").value = "";
  await start();
}

async function start() {
  try {
    info = await (await request("info")).json();
  } catch (error) {
    if (error instanceof ServerError && error.status === 401) showLogin();
    else element("facts").textContent = messageOf(error);
    return;
  }
  document.title = info.model;
  element("model").textContent = info.model;
  const precision = info.precision === "unknown" ? "" : `${info.precision} `;
  element("facts").textContent =
    `${precision}${info.format}, ${OUTPUTS[info.meaning](info.classes)}, ${info.input.width} × ${info.input.height} pixels; ` +
    `${info.backend}, ${info.threads} ${info.threads === 1 ? "thread" : "threads"}`;
  element("version").textContent = `mbn-deploy ${info.version}`;
  element("login").hidden = true;
  element("work").hidden = false;
  element("modes").hidden = !info.camera;
  if (info.camera) watchCamera();
}

function takeTokenFromAddress() {
  const token = new URLSearchParams(location.hash.slice(1)).get("token");
  if (token !== null) history.replaceState(null, "", location.pathname); // keeps the token out of history and bookmarks
  return token;
}

listenForImages();
element("login").addEventListener("submit", (event) => {
  event.preventDefault();
  login(element("token").value);
});
element("mode-image").addEventListener("click", () => { showMode("image"); clear(); });
element("mode-camera").addEventListener("click", watchCamera);
element("again").addEventListener("click", watchCamera);

function openPage() {
  const token = takeTokenFromAddress();
  if (token === null) start();
  else login(token);
}
window.addEventListener("hashchange", () => {
  if (location.hash) openPage(); // the address with the token was opened in the tab of this page
});
openPage();
