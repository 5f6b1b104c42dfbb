// The storefront's own behaviour: every act becomes an event, then the list for you is asked again.
"use strict";

const body = document.body;
const who = () => {
  const event = { session_id: body.dataset.visit };
  if (body.dataset.user) event.user_id = body.dataset.user;
  return event;
};

// crypto.randomUUID exists only on https and localhost
const newId = () =>
  Array.from(crypto.getRandomValues(new Uint8Array(16)), (b) => b.toString(16).padStart(2, "0")).join("");

// Resolves when the server has the events on disk. The same ids are sent again on a retry.
async function send(events) {
  const full = events.map((event) => ({ event_id: newId(), ...who(), channel: "web", ...event }));
  const response = await fetch("/v1/events", {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify({ events: full }),
    keepalive: true,
  });
  if (!response.ok) throw new Error((await response.json()).error.message);
}

function say(text) {
  const toast = document.getElementById("toast");
  toast.textContent = text;
  clearTimeout(say.timer);
  say.timer = setTimeout(() => (toast.textContent = ""), 3500);
}

// --- what an element is about

function about(element) {
  const holder = element.closest("[data-item]");
  const event = { item_id: holder.dataset.item };
  const list = holder.closest("[data-answer]");
  const answer = list ? list.dataset.answer : holder.dataset.answerOf;
  if (answer) event.answer_id = answer;
  if (holder.dataset.position) event.position = Number(holder.dataset.position);
  if (holder.dataset.price) event.price_minor = Number(holder.dataset.price);
  return event;
}

// --- the list for you, asked again

let asked = 0;

function refresh(started) {
  const list = document.querySelector("[data-live]");
  if (!list) return;
  list.dataset.before = shown(list).join("\n");
  asked = started;
  htmx.trigger(list, "changed");
}

const shown = (list) => Array.from(list.querySelectorAll("[data-item]"), (ware) => ware.dataset.item);

document.addEventListener("htmx:after:swap", () => {
  for (const list of document.querySelectorAll("[data-live][data-before]")) {
    const before = new Set(list.dataset.before.split("\n"));
    delete list.dataset.before;
    let count = 0;
    list.classList.add("changed");
    for (const ware of list.querySelectorAll("[data-item]")) {
      if (before.has(ware.dataset.item)) continue;
      count += 1;
      ware.classList.add("is-new");
      const mark = document.createElement("span");
      mark.className = "fresh";
      mark.textContent = body.dataset.fresh;
      ware.append(mark);
    }
    const took = document.getElementById("took");
    if (took && asked) {
      const ms = Math.round(performance.now() - asked);
      took.textContent = body.dataset.changed.replace("{count}", count).replace("{ms}", ms);
      took.hidden = false;
    }
  }
  watch();
});

// --- acts: favourite, cart, buy

const SAID = { cart: "added", purchase: "bought", favorite: "liked" };

document.addEventListener("click", async (click) => {
  const button = click.target.closest("[data-act], [data-remove], [data-buy-all]");
  if (!button) return;
  click.preventDefault();
  const started = performance.now();
  button.disabled = true;
  try {
    if (button.hasAttribute("data-remove")) {
      const { item_id } = about(button);
      setCart(cart().filter((item) => item !== item_id));
      location.reload();
      return;
    }
    if (button.hasAttribute("data-buy-all")) {
      const rows = Array.from(document.querySelectorAll("tr[data-item]"));
      await send(rows.map((row) => ({ kind: "purchase", quantity: 1, ...about(row) })));
      setCart([]);
      location.reload();
      return;
    }
    const kind = button.dataset.act;
    const event = { kind, ...about(button) };
    if (kind === "purchase" || kind === "cart") event.quantity = 1;
    await send([event]);
    if (kind === "cart") setCart([...cart(), event.item_id]);
    if (kind === "purchase") setCart(cart().filter((item) => item !== event.item_id));
    say(body.dataset[SAID[kind]]);
    refresh(started);
  } catch (error) {
    say(`${body.dataset.failed} ${error.message}`);
  } finally {
    button.disabled = false;
  }
});

// --- the cart: a cookie, so that the server can draw the page

function cart() {
  const found = document.cookie.split("; ").find((part) => part.startsWith("cart="));
  try {
    return found ? JSON.parse(decodeURIComponent(found.slice(5))) : [];
  } catch {
    return [];
  }
}

function setCart(items) {
  const unique = [...new Set(items)].slice(-50);
  document.cookie = `cart=${encodeURIComponent(JSON.stringify(unique))}; path=/; max-age=86400; samesite=lax`;
  const count = document.getElementById("cart-count");
  if (count) count.textContent = unique.length;
}

// --- what was shown is recorded as carefully as what was clicked

const reported = new Set();
let waiting = [];
const eyes = new IntersectionObserver(
  (entries) => {
    for (const entry of entries) {
      if (!entry.isIntersecting) continue;
      eyes.unobserve(entry.target);
      const event = about(entry.target);
      const key = `${event.answer_id} ${event.item_id}`;
      if (reported.has(key)) continue;
      reported.add(key);
      waiting.push({ kind: "impression", ...event });
    }
    clearTimeout(eyes.timer);
    eyes.timer = setTimeout(report, 600);
  },
  { threshold: 0.6 },
);

function report() {
  const events = waiting;
  waiting = [];
  if (events.length) send(events).catch(() => {});
}

addEventListener("pagehide", report); // leaving at once loses nothing that was seen

function watch() {
  for (const ware of document.querySelectorAll(".ware[data-item]")) eyes.observe(ware);
}

// --- suggestions by keyboard

const field = document.getElementById("q");
const list = document.getElementById("suggestions");

function pick(option) {
  field.value = option.textContent;
  list.replaceChildren();
  field.form.requestSubmit();
}

if (field) {
  field.addEventListener("keydown", (event) => {
    const options = Array.from(list.children);
    const at = options.findIndex((option) => option.getAttribute("aria-selected") === "true");
    if (event.key === "Escape") list.replaceChildren();
    if (event.key === "Enter" && at >= 0) {
      event.preventDefault();
      pick(options[at]);
    }
    if ((event.key === "ArrowDown" || event.key === "ArrowUp") && options.length) {
      event.preventDefault();
      const step = event.key === "ArrowDown" ? 1 : -1;
      const next = (at + step + options.length) % options.length;
      options.forEach((option, n) => option.setAttribute("aria-selected", String(n === next)));
      field.setAttribute("aria-activedescendant", options[next].id);
    }
  });
  field.addEventListener("blur", () => setTimeout(() => list.replaceChildren(), 200));
  list.addEventListener("mousedown", (event) => {
    const option = event.target.closest("[role=option]");
    if (option) pick(option);
  });
  new MutationObserver(() => {
    field.setAttribute("aria-expanded", String(list.children.length > 0));
    field.removeAttribute("aria-activedescendant");
  }).observe(list, { childList: true });
}

// --- looking at an item, and searching, are events too

document.addEventListener("DOMContentLoaded", async () => {
  watch();
  const viewed = document.querySelector("[data-viewed]");
  if (viewed) {
    const opened = performance.now();
    const event = about(viewed);
    try {
      await send([{ kind: "view", ...event }]);
      refresh(opened);
    } catch (error) {
      say(`${body.dataset.failed} ${error.message}`);
    }
    addEventListener("pagehide", () => {
      const dwell_ms = Math.round(performance.now() - opened);
      send([{ kind: "leave", dwell_ms, ...event }]).catch(() => {});
    });
  }
  const results = document.querySelector("[data-query]");
  if (results) {
    const event = { kind: "search", query: results.dataset.query, answer_id: results.dataset.answer };
    send([event]).catch(() => {});
  }
});

// a page out of the browser's own memory shows the list as it was: ask again
addEventListener("pageshow", (event) => {
  if (event.persisted) refresh(0);
});
