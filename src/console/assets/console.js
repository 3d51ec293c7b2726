// What of the console is live: pages that renew themselves, filters that complete themselves, uploads that say how far they are.
// Everything else works without this.
"use strict";
(() => {
  const $ = (selector, within = document) => within.querySelector(selector);
  const all = (selector, within = document) => [...within.querySelectorAll(selector)];

  // The zone of the browser, until another one is chosen.
  const cookie = (name) => document.cookie.split("; ").some((it) => it.startsWith(name + "="));
  const zone = Intl.DateTimeFormat().resolvedOptions().timeZone;
  if (zone && !cookie("cellwise-zone")) document.cookie = `cellwise-zone=${zone}; Path=/; Max-Age=31536000; SameSite=Lax`;

  // A page that renews itself: what has the attribute data-renew is read anew when the server says that something has changed.
  let reading = false, again = false;
  async function renew() {
    if (reading) { again = true; return; }
    reading = true;
    try {
      const answer = await fetch(location.href, { headers: { "x-renew": "1" }, redirect: "manual" });
      if (answer.type === "opaqueredirect" || answer.status === 401) { stop(); location.reload(); return; }
      if (!answer.ok) return;
      const page = new DOMParser().parseFromString(await answer.text(), "text/html");
      for (const old of all("[data-renew][id]")) {
        const fresh = page.getElementById(old.id);
        if (!fresh || fresh.innerHTML === old.innerHTML) continue;
        if (old.contains(document.activeElement) && document.activeElement.matches("input, select, textarea")) continue;
        const focused = old.contains(document.activeElement) && document.activeElement.id;
        const open = all("details[open][id]", old).map((it) => it.id);
        old.replaceChildren(...fresh.childNodes);
        for (const id of open) document.getElementById(id)?.setAttribute("open", "");
        if (focused) document.getElementById(focused)?.focus();
        document.dispatchEvent(new CustomEvent("renewed", { detail: old.id }));
      }
    } catch { /* the next time */ } finally {
      reading = false;
      if (again) { again = false; setTimeout(renew, 2000); }
    }
  }
  // A browser holds few connections to one host: only the page that is seen has one.
  let source = null;
  function stop() { source?.close(); source = null; }
  function follow() {
    const where = document.body.dataset.live;
    if (source || document.hidden || !where || !$("[data-renew]")) return;
    source = new EventSource(where);
    source.addEventListener("changed", renew);
    source.addEventListener("error", () => {
      if (source?.readyState === EventSource.CLOSED) { stop(); setTimeout(() => { renew(); follow(); }, 10000); }
    });
  }
  document.addEventListener("visibilitychange", () => { if (document.hidden) stop(); else { renew(); follow(); } });
  window.addEventListener("pagehide", stop);
  window.addEventListener("pageshow", follow);
  follow();

  // What is wrong is what is seen and read first.
  $("#problem")?.focus();

  // Buttons that copy: data-copy names the element whose text it is.
  for (const button of all("button[data-copy]")) {
    button.hidden = false;
    button.addEventListener("click", async () => {
      try {
        await navigator.clipboard.writeText(document.getElementById(button.dataset.copy).textContent);
        button.textContent = button.dataset.copied;
      } catch { getSelection().selectAllChildren(document.getElementById(button.dataset.copy)); }
    });
  }

  // A form that shows beforehand what it will do: data-preview is where it is sent, the answer stands in the element of that id.
  for (const form of all("form[data-preview]")) {
    let timer = 0, asked = 0;
    const look = async () => {
      const own = ++asked;
      const body = new URLSearchParams(new FormData(form));
      try {
        const answer = await fetch(form.dataset.preview, { method: "POST", body, redirect: "manual" });
        if (!answer.ok || own !== asked) return;
        const page = new DOMParser().parseFromString(await answer.text(), "text/html");
        for (const part of all("[data-part][id]", page)) {
          const old = document.getElementById(part.id);
          if (old && old.innerHTML !== part.innerHTML) old.replaceChildren(...part.childNodes);
        }
      } catch { /* the next change */ }
    };
    form.addEventListener("input", (event) => {
      // what is entered is what is meant
      const meant = event.target.name && $(`input[type="radio"][value="${event.target.name}"]`, form);
      if (meant && event.target.value) meant.checked = true;
      clearTimeout(timer); timer = setTimeout(look, 600); });
    look();
  }

  // A filter that completes itself (ARIA APG, "Combobox with list autocomplete").
  for (const input of all("input[data-complete]")) {
    const list = document.createElement("ul");
    list.id = input.id + "-list"; list.setAttribute("role", "listbox"); list.setAttribute("aria-label", input.dataset.label); list.hidden = true;
    input.parentElement.classList.add("complete"); input.after(list);
    for (const [name, value] of [["role", "combobox"], ["aria-autocomplete", "list"], ["aria-controls", list.id], ["aria-expanded", "false"], ["autocomplete", "off"]]) input.setAttribute(name, value);
    let chosen = -1, timer = 0, asked = 0;
    const close = () => { list.hidden = true; chosen = -1; input.setAttribute("aria-expanded", "false"); input.removeAttribute("aria-activedescendant"); };
    const mark = (i) => {
      chosen = i;
      [...list.children].forEach((item, at) => item.setAttribute("aria-selected", at === i));
      list.children[i]?.scrollIntoView({ block: "nearest" });
      if (i < 0) input.removeAttribute("aria-activedescendant"); else input.setAttribute("aria-activedescendant", list.children[i].id);
    };
    const take = (i) => {
      const item = list.children[i];
      const rest = input.value.slice(Number(item.dataset.to));
      const begin = input.value.slice(0, Number(item.dataset.from)) + item.dataset.text;
      input.value = begin + rest;
      input.setSelectionRange(begin.length, begin.length);
      close();
      input.dispatchEvent(new Event("input", { bubbles: true }));
    };
    const look = async () => {
      const own = ++asked;
      const query = new URLSearchParams({ text: input.value, at: input.selectionStart });
      try {
        const answer = await fetch(`${input.dataset.complete}?${query}`, { redirect: "manual" });
        if (!answer.ok || own !== asked || document.activeElement !== input) return;
        const found = await answer.json();
        list.replaceChildren(...found.map((it, i) => {
          const item = document.createElement("li");
          item.id = `${list.id}-${i}`; item.setAttribute("role", "option"); item.textContent = it.shown;
          Object.assign(item.dataset, { from: it.from, to: it.to, text: it.text });
          item.addEventListener("pointerdown", (event) => { event.preventDefault(); take(i); });
          return item;
        }));
        list.hidden = found.length === 0;
        input.setAttribute("aria-expanded", String(found.length > 0));
        mark(-1);
      } catch { close(); }
    };
    const later = () => { clearTimeout(timer); timer = setTimeout(look, 150); };
    input.addEventListener("input", later);
    input.addEventListener("blur", close);
    input.addEventListener("keydown", (event) => {
      const many = list.children.length;
      if (event.key === "ArrowDown" && list.hidden) { later(); event.preventDefault(); return; }
      if (list.hidden) return;
      if (event.key === "ArrowDown") mark((chosen + 1) % many);
      else if (event.key === "ArrowUp") mark((chosen + many - 1) % many);
      else if ((event.key === "Enter" || event.key === "Tab") && chosen >= 0) take(chosen);
      else if (event.key === "Escape") close();
      else return;
      event.preventDefault();
    });
  }

  // An upload that says how far it is. Without this the browser sends the form, and says nothing.
  for (const form of all("form[data-upload]")) {
    const bar = $("progress", form), told = $("[data-told]", form);
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      const request = new XMLHttpRequest();
      request.open("POST", form.action);
      request.responseType = "document";
      request.upload.addEventListener("progress", (at) => {
        if (!at.lengthComputable) return;
        bar.hidden = false; bar.max = at.total; bar.value = at.loaded;
        told.textContent = `${Math.floor(at.loaded / at.total * 100)} %`;
      });
      request.addEventListener("load", () => {
        if (request.status < 400 && request.responseURL !== form.action) { location.href = request.responseURL; return; }
        const main = request.responseXML && $("main", request.responseXML);
        if (main) { $("main").replaceChildren(...main.childNodes); $("#problem")?.focus(); } else told.textContent = form.dataset.failed;
      });
      request.addEventListener("error", () => { told.textContent = form.dataset.failed; });
      request.send(new FormData(form));
    });
  }
})();
