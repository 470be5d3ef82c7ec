// The page to try the server. What is typed, chosen and answered stays in the memory of this page.

const byId = (id) => document.getElementById(id);
const LEVELS = 8;
const SHOWN = 3;
const EXAMPLE = ["a red circle", "a blue square", "ein roter Kreis", "stripes"];
const KINDS = { text: "text", picture: "picture" };

/** Pictures in the order in which they were added: {file, url, name}. */
let pictures = [];
/** What the server serves, as GET /v1/models says it. */
let model = null;
let waiting = false;

// -- small helpers

/** An element with properties and children; text never becomes markup. */
function make(tag, properties = {}, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
}

function plural(count, word) {
  return `${count} ${word}${count === 1 ? "" : "s"}`;
}

function formatBytes(count) {
  if (count < 1000) return `${count} bytes`;
  return count < 1e6 ? `${Math.round(count / 1e3)} kB` : `${(count / 1e6).toFixed(1)} MB`;
}

function endSentence(text) {
  return /[.!?]$/.test(text) ? text : `${text}.`;
}

function tell(text) {
  byId("status").textContent = text;
}

/** Shows what went wrong, in words; null takes it away. */
function complain(text) {
  const problem = byId("problem");
  const sentence = text === null ? "" : text[0].toUpperCase() + text.slice(1);
  problem.replaceChildren(...(sentence ? [make("p", { textContent: sentence })] : []));
  problem.hidden = text === null;
}

// -- the server

async function fetchModel() {
  try {
    const response = await fetch("v1/models");
    model = (await response.json()).data[0];
  } catch {
    complain("The server does not answer. Is it still running?");
    return;
  }
  const widths = (model.matryoshka ?? []).filter((width) => width < model.dimensions);
  const options = widths.map((width) => make("option", { value: String(width), textContent: String(width) }));
  byId("width").replaceChildren(make("option", { value: "", textContent: `${model.dimensions} (full)` }), ...options.reverse());
  byId("about").textContent = `${model.id} turns each text and each picture into a vector of ${model.dimensions} numbers. See which of yours are alike.`;
  byId("facts").textContent = `Space ${model.space}. For programs: POST v1/embeddings, described in openapi.json.`;
}

/** Sends all items in one request. Gives {vectors, body, seconds}, or throws a Refusal. */
async function embed(items) {
  const input = await Promise.all(items.map(async (item) =>
    item.kind === KINDS.text ? { text: item.name } : { image: await readDataUri(item.file) }));
  const request = { model: model?.id, input, normalized: true, embedding_type: "base64" };
  if (chosenTask() === "query") request.task = "retrieval.query";
  if (byId("width").value) request.dimensions = Number(byId("width").value);
  const headers = { "Content-Type": "application/json" };
  if (byId("key").value) headers.Authorization = `Bearer ${byId("key").value}`;
  const started = performance.now();
  const response = await fetch("v1/embeddings", { method: "POST", headers, body: JSON.stringify(request) });
  const body = await response.json().catch(() => ({}));
  if (!response.ok) throw new Refusal(response, body);
  const rows = [...body.data].sort((one, other) => one.index - other.index);
  return { vectors: rows.map((row) => readVector(row.embedding)), body, seconds: (performance.now() - started) / 1000 };
}

class Refusal extends Error {
  constructor(response, body) {
    super(typeof body.detail === "string" ? body.detail : `the server answered ${response.status}`);
    this.status = response.status;
    this.retryAfter = response.headers.get("Retry-After");
    const place = /^input\.(\d+)/.exec(body.error?.param ?? "");
    this.index = place ? Number(place[1]) : null;
  }
}

function readDataUri(file) {
  return new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve(reader.result);
    reader.onerror = () => reject(new Error(`${file.name} cannot be read; was it moved?`));
    reader.readAsDataURL(file);
  });
}

function readVector(base64) {
  const bytes = Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0));
  return new Float32Array(bytes.buffer);
}

// -- what is asked

function chosenTask() {
  return document.querySelector("input[name=task]:checked").value;
}

function collectItems() {
  const lines = byId("texts").value.split("\n").map((line) => line.trim()).filter(Boolean);
  const texts = lines.map((name) => ({ kind: KINDS.text, name }));
  return [...texts, ...pictures.map((picture) => ({ kind: KINDS.picture, ...picture }))];
}

/** What messages call an item, by its place in the request. */
function nameItem(items, index) {
  const item = items[index];
  if (item === undefined) return "";
  const number = items.slice(0, index + 1).filter((one) => one.kind === item.kind).length;
  return item.kind === KINDS.text ? `text ${number} (“${shorten(item.name)}”)` : `picture ${number} (${item.name})`;
}

function shorten(text) {
  return text.length > 60 ? `${text.slice(0, 57)}…` : text;
}

async function compare(event) {
  event?.preventDefault();
  if (waiting) return;
  const items = collectItems();
  complain(null);
  markWrong(null);
  if (items.length < 2) {
    complain("There is nothing to compare yet: type at least two texts, or add pictures.");
    byId("texts").focus();
    return;
  }
  setWaiting(true);
  tell(`Embedding ${countItems(items)} …`);
  try {
    const { vectors, body, seconds } = await embed(items);
    showResults(items, vectors);
    const tokens = body.usage?.total_tokens;
    const cost = tokens === undefined ? "" : `, ${tokens.toLocaleString("en")} tokens`;
    tell(`Compared ${countItems(items)} in ${seconds.toFixed(2)} s${cost}. The similarities follow.`);
    if (body.space) byId("facts").textContent = `Space ${body.space}. For programs: POST v1/embeddings, described in openapi.json.`;
  } catch (error) {
    tell("");
    explain(error, items);
  } finally {
    setWaiting(false);
  }
}

function countItems(items) {
  const texts = items.filter((item) => item.kind === KINDS.text).length;
  const parts = [[texts, "text"], [items.length - texts, "picture"]].filter(([count]) => count > 0);
  return parts.map(([count, word]) => plural(count, word)).join(" and ");
}

function setWaiting(on) {
  waiting = on;
  byId("compare").setAttribute("aria-disabled", String(on)); // disabled, it would lose the focus
}

/** Says what went wrong with which item, and puts the focus where it can be put right. */
function explain(error, items) {
  if (!(error instanceof Refusal)) {
    complain(error instanceof TypeError ? "The server does not answer. Is it still running?" : `${error.message}`);
    return;
  }
  if (error.status === 401) return askForKey(error);
  const name = error.index === null ? "" : nameItem(items, error.index);
  const wait = error.retryAfter ? ` Try again in ${plural(Number(error.retryAfter), "second")}.` : "";
  complain(`${name ? `${name}: ` : ""}${endSentence(error.message)}${wait}`);
  if (error.index !== null) markWrong(items[error.index]);
}

function askForKey(error) {
  byId("key-field").hidden = false;
  complain(byId("key").value ? endSentence(error.message) : "This server asks for a key.");
  byId("key").focus();
}

/** Marks the picture or the texts that the server refused; null takes the mark away. */
function markWrong(item) {
  byId("texts").setAttribute("aria-invalid", String(item?.kind === KINDS.text));
  const entries = [...byId("pictures").children];
  entries.forEach((entry, index) => entry.classList.toggle("wrong", item?.kind === KINDS.picture && pictures[index].url === item.url));
}

// -- pictures

function addPictures(files) {
  const added = [...files].filter((file) => file.size > 0);
  pictures.push(...added.map((file) => ({ file, url: URL.createObjectURL(file), name: file.name || "pasted picture" })));
  listPictures();
  if (added.length) tell(`Added ${plural(added.length, "picture")}.`);
}

function removePicture(index) {
  const [gone] = pictures.splice(index, 1);
  URL.revokeObjectURL(gone.url);
  listPictures();
  const next = byId("pictures").children[Math.min(index, pictures.length - 1)];
  (next?.querySelector("button") ?? byId("files")).focus();
  tell(`Removed ${gone.name}.`);
}

function listPictures() {
  byId("pictures").replaceChildren(...pictures.map((picture, index) => {
    const remove = make("button", { type: "button", className: "quiet", textContent: "Remove" });
    remove.setAttribute("aria-label", `Remove ${picture.name}`);
    remove.addEventListener("click", () => removePicture(index));
    return make("li", {},
      make("img", { src: picture.url, alt: "" }),
      make("span", { className: "name", textContent: picture.name, title: picture.name }),
      make("div", { className: "row" }, make("span", { textContent: formatBytes(picture.file.size) }), remove));
  }));
  const size = pictures.reduce((sum, picture) => sum + picture.file.size, 0);
  byId("size").textContent = pictures.length ? `${plural(pictures.length, "picture")}, ${formatBytes(size)} in all.` : "";
}

// -- results

function showResults(items, vectors) {
  const scores = vectors.map((one) => vectors.map((other) => dot(one, other)));
  showMatrix(items, scores);
  showNearest(items, scores);
  byId("results").hidden = false;
}

function dot(one, other) {
  return one.reduce((sum, value, place) => sum + value * other[place], 0);
}

/** Gives the level of a score, 0 to LEVELS, among those of pairs of the same kinds. */
function makeScale(items, scores) {
  const ranges = new Map();
  const pair = (row, column) => [items[row].kind, items[column].kind].sort().join();
  scores.forEach((line, row) => line.forEach((score, column) => {
    if (row === column) return;
    const [low, high] = ranges.get(pair(row, column)) ?? [Infinity, -Infinity];
    ranges.set(pair(row, column), [Math.min(low, score), Math.max(high, score)]);
  }));
  return (row, column) => {
    const [low, high] = ranges.get(pair(row, column));
    return high - low < 1e-6 ? LEVELS / 2 : Math.round(((scores[row][column] - low) / (high - low)) * LEVELS);
  };
}

function showMatrix(items, scores) {
  const level = makeScale(items, scores);
  const corner = make("td", {}, make("span", { className: "unseen", textContent: "Text or picture" }));
  const head = make("tr", {}, corner, ...items.map((item) => makeHeader(item, "col")));
  const rows = items.map((item, row) => make("tr", {}, makeHeader(item, "row"), ...items.map((_, column) => (
    row === column
      ? make("td", { className: "itself" }, make("span", { textContent: "–", ariaHidden: "true" }), make("span", { className: "unseen", textContent: "itself" }))
      : make("td", { className: `h${level(row, column)}`, textContent: scores[row][column].toFixed(3) })
  ))));
  fillTable("matrix", head, rows);
}

function makeHeader(item, scope) {
  const content = item.kind === KINDS.text
    ? make("span", { className: "name", textContent: item.name, title: item.name })
    : make("img", { src: item.url, alt: item.name, title: item.name });
  return make("th", { scope }, content);
}

function showNearest(items, scores) {
  const kinds = Object.values(KINDS).filter((kind) => items.some((item) => item.kind === kind));
  const names = ["Text or picture", ...kinds.map((kind) => `Nearest ${kind}s`)];
  const head = make("tr", {}, ...names.map((name) => make("th", { scope: "col", textContent: name })));
  const rows = items.map((item, row) => make("tr", {}, makeHeader(item, "row"), ...kinds.map((kind) => {
    const places = items.map((_, place) => place).filter((place) => place !== row && items[place].kind === kind);
    places.sort((one, other) => scores[row][other] - scores[row][one]);
    return make("td", {}, places.length ? make("ol", {}, ...places.slice(0, SHOWN).map((place) => makeEntry(items[place], scores[row][place]))) : "–");
  })));
  fillTable("nearest", head, rows);
}

function makeEntry(item, score) {
  const picture = item.kind === KINDS.picture ? [make("img", { src: item.url, alt: "" })] : [];
  const number = make("span", { className: "score", textContent: score.toFixed(3) });
  const name = make("span", { className: "name", textContent: item.name, title: item.name });
  return make("li", {}, make("span", { className: "entry" }, number, " ", ...picture, name));
}

function fillTable(id, head, rows) {
  const caption = byId(id).querySelector("caption");
  byId(id).replaceChildren(caption, make("thead", {}, head), make("tbody", {}, ...rows));
}

// -- an example, drawn here

function drawPicture(name, paint) {
  const canvas = make("canvas", { width: 320, height: 240 });
  const pen = canvas.getContext("2d");
  pen.fillStyle = "#f6f1e7";
  pen.fillRect(0, 0, canvas.width, canvas.height);
  paint(pen);
  return new Promise((resolve) => canvas.toBlob((blob) => resolve(new File([blob], name, { type: "image/png" }))));
}

async function fillExample() {
  byId("texts").value = EXAMPLE.join("\n");
  addPictures(await Promise.all([
    drawPicture("red circle.png", (pen) => {
      pen.fillStyle = "#c8281e";
      pen.arc(160, 120, 80, 0, 2 * Math.PI);
      pen.fill();
    }),
    drawPicture("blue square.png", (pen) => {
      pen.fillStyle = "#1f4fa8";
      pen.fillRect(90, 50, 140, 140);
    }),
  ]));
  tell("Filled in four texts and two pictures.");
}

// -- events

byId("form").addEventListener("submit", compare);
byId("example").addEventListener("click", fillExample);
byId("files").addEventListener("change", (event) => {
  addPictures(event.target.files);
  event.target.value = ""; // so that the same file can be chosen again
});
byId("texts").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) compare(event);
});
document.addEventListener("paste", (event) => {
  const files = [...(event.clipboardData?.files ?? [])].filter((file) => file.type.startsWith("image/"));
  if (!files.length) return;
  event.preventDefault();
  addPictures(files);
});
for (const type of ["dragenter", "dragover", "dragleave", "drop"]) {
  document.addEventListener(type, (event) => {
    if (!event.dataTransfer?.types.includes("Files")) return; // a text that is moved, say
    event.preventDefault(); // a file that misses the field must not replace the page
    byId("drop").classList.toggle("over", type === "dragenter" || type === "dragover");
    if (type === "drop") addPictures(event.dataTransfer.files);
  });
}

fetchModel();
