// The API page: send a request to this server and show what comes back.
"use strict";

document.addEventListener("submit", async (event) => {
  const form = event.target.closest("form[data-method]");
  if (!form) return;
  event.preventDefault();
  const query = new URLSearchParams();
  let path = form.dataset.path;
  for (const field of form.querySelectorAll("[data-in]")) {
    if (!field.value) continue;
    if (field.dataset.in === "path") path = path.replace(`{${field.name}}`, encodeURIComponent(field.value));
    else query.append(field.name, field.value);
  }
  const key = document.getElementById("api-key").value.trim();
  const headers = key ? { Authorization: `Bearer ${key}` } : {};
  const options = { method: form.dataset.method, headers };
  const body = form.querySelector("textarea");
  if (body) {
    options.body = body.value;
    headers["Content-Type"] = "application/json";
  }
  const out = form.parentElement.querySelector("output");
  const started = performance.now();
  try {
    const response = await fetch(query.size ? `${path}?${query}` : path, options);
    const text = await response.text();
    const took = Math.round(performance.now() - started);
    let shown = text;
    try {
      shown = JSON.stringify(JSON.parse(text), null, 2);
    } catch {
      // not JSON: /metrics, say
    }
    out.innerHTML = "<pre></pre>";
    out.firstChild.textContent = `HTTP ${response.status} · ${took} ms\n\n${shown.slice(0, 20000)}`;
  } catch (error) {
    out.innerHTML = "<pre></pre>";
    out.firstChild.textContent = String(error);
  }
});
