// Browser events for a shop's own pages. `track.js` is this file without comments, blanks and long
// names: python -m shopkeeper.console.track writes it, a test compares the two.
//
//   <script async src="https://SHOPKEEPER/static/track.js" data-key="pk_…" data-user="USER"></script>
//
//   data-sk-item="ID"     a card in a list: an impression once half of it was seen
//     data-sk-position="3"   its place in the list        data-sk-price="12900"   in minor units
//   data-sk-answer="ID"   the list, or anything around it: the answer it shows
//   data-sk-view="ID"     on an item's own page: a view now, and leave with the time spent
//   data-sk-query="…"     on a page of results: a search
//   data-sk-kind="cart"   on a button in a card or an item's page: that kind when clicked
//   sk("favorite", {item_id: "ID"})   anything else, by hand
//
// An event waits in localStorage until the server has said that it is on disk. It carries its own
// event_id, so sending it twice changes nothing: after a lost answer, offline, from two tabs.
// What page sends it is checked against the key's origins; text/plain spares the preflight.
(() => {
const page = document, script = page.currentScript, set = script.dataset, now = Date.now, on = addEventListener,
url = new URL("/v1/events?key=" + set.key, script.src);
let store, timer, busy, most = 100, wait = 1e3, left;
// localStorage may be forbidden; then memory has to do
try { store = localStorage; store.sk = 1 } catch { store = {} }
const get = k => { try { return JSON.parse(store["sk_" + k]) } catch {} },
put = (k, v) => { try { store["sk_" + k] = JSON.stringify(v) } catch {} },
id = () => crypto.getRandomValues(new Uint32Array(4)).join("-"),
queue = () => get("q") || [],
// the server's clock is the better one; ours counts only for what had to wait over a minute
body = q => JSON.stringify({events: q.map(([e, t]) => now() - t > 6e4 ? {...e, ts: new Date(t)} : e)}),
later = ms => { clearTimeout(timer); timer = setTimeout(flush, ms) },
flush = async () => {
const q = queue().slice(0, most);
if (busy || !q[0]) return;
busy = 1;
let status;
try { status = (await fetch(url, {method: "POST", body: body(q), keepalive: true})).status } catch {}
busy = 0;
// one bad event refuses its whole batch: send one by one, and drop only that one
if (status == 422 && q[1]) most = 1;
else if (status == 202 || status == 422) put("q", queue().filter(([e]) => !q.some(([g]) => g.event_id == e.event_id)));
else return later(wait = Math.min(2 * wait, 6e5));
wait = 1e3;
flush()
},
// a visit ends after half an hour without events
visit = () => { const t = now(), v = get("v"), n = [v && t - v[1] < 18e5 ? v[0] : id(), t]; put("v", n); return n[0] },
sk = window.sk = (kind, e) => {
put("q", [...queue(), [{event_id: id(), session_id: visit(), user_id: set.user, channel: "web", kind, ...e}, now()]].slice(-500));
later(500)
},
near = (e, k) => e.closest(`[data-sk-${k}]`)?.getAttribute("data-sk-" + k) || void 0,
about = e => ({item_id: near(e, "item") || near(e, "view"), answer_id: near(e, "answer"), position: +near(e, "position") || void 0, price_minor: +near(e, "price") || void 0}),
one = (k, f) => { const e = page.querySelector(`[data-sk-${k}]`); e && f(e) },
eyes = new IntersectionObserver(es => es.map(({isIntersecting: i, target: e}) => i && (eyes.unobserve(e), sk("impression", about(e)))), {threshold: .5}),
// cards that a script adds later count too; observing one twice changes nothing
seen = new WeakSet,
look = () => page.querySelectorAll("[data-sk-item]").forEach(e => seen.has(e) || (seen.add(e), eyes.observe(e)));
look();
new MutationObserver(look).observe(page, {childList: true, subtree: true});
on("click", ({target: e}) => {
const k = near(e, "kind"), a = about(e);
// the click on a card is remembered, so that the view on the next page knows its answer
k ? sk(k, a) : a.item_id && put("a", a)
}, true);
one("query", e => sk("search", {query: near(e, "query"), answer_id: near(e, "answer")}));
one("view", e => {
const t = now(), c = get("a"), a = about(e), v = c && c.item_id == a.item_id ? {...a, ...c} : a;
sk("view", v);
left = () => { left = 0; sk("leave", {...v, dwell_ms: now() - t}) }
});
on("visibilitychange", () => {
if (page.visibilityState != "hidden") return flush();
left && left();
const q = queue().slice(0, 100);
q[0] && navigator.sendBeacon(url, body(q))
});
on("online", flush);
flush()
})()
