"use strict";
// Everything works without this file; it adds keys, the theme, and parts that are loaded on demand.
(() => {
  const root = document.documentElement;
  const kept = (() => { try { return localStorage.getItem("theme"); } catch { return null; } })();
  if (kept === "dark" || kept === "light") root.dataset.theme = kept;
  const isDark = () => root.dataset.theme
    ? root.dataset.theme === "dark"
    : matchMedia("(prefers-color-scheme: dark)").matches;

  document.addEventListener("DOMContentLoaded", () => {
    const theme = document.getElementById("theme");
    const help = document.getElementById("help");
    const name = () => { theme.textContent = isDark() ? "Light" : "Dark"; };
    const turnOver = () => {
      root.dataset.theme = isDark() ? "light" : "dark";
      try { localStorage.setItem("theme", root.dataset.theme); } catch { /* not kept */ }
      name();
    };
    theme.hidden = false;
    name();
    theme.addEventListener("click", turnOver);
    const keys = document.getElementById("keys");
    keys.hidden = false;
    keys.addEventListener("click", () => help.showModal());

    // A part of another page in place of the link to it; where nothing can be fetched, the link stays.
    const load = async (details) => {
      if (!details.open || !details.dataset.load || location.protocol === "file:") return;
      const address = details.dataset.load;
      delete details.dataset.load;
      try {
        const answer = await fetch(address);
        const page = new DOMParser().parseFromString(await answer.text(), "text/html");
        const part = page.getElementById("call");
        if (!answer.ok || !part) return;
        part.removeAttribute("id");
        const link = details.querySelector("p a");
        link.textContent = "this call on a page of its own";
        details.append(part);
      } catch { /* the link stays */ }
    };
    document.addEventListener("toggle", (event) => load(event.target), true);

    // A link into something folded unfolds it.
    const unfold = () => {
      const place = location.hash && document.getElementById(decodeURIComponent(location.hash.slice(1)));
      if (!place) return;
      for (let at = place; at; at = at.parentElement) if (at.tagName === "DETAILS") at.open = true;
      if (place.tabIndex < 0) place.tabIndex = -1; // the next Tab goes on from here
      place.focus({ preventScroll: true });
      place.scrollIntoView({ block: "center" });
    };
    addEventListener("hashchange", unfold);
    unfold();

    // What is being written is asked for again, and replaced in place.
    const main = document.getElementById("main");
    const refresh = async () => {
      const seconds = Number(main.dataset.refresh);
      if (!seconds) return;
      await new Promise((done) => setTimeout(done, seconds * 1000));
      if (!document.hidden) {
        try {
          const answer = await fetch(location.href);
          const page = new DOMParser().parseFromString(await answer.text(), "text/html");
          const now = page.getElementById("live");
          const before = document.getElementById("live");
          for (const each of before?.querySelectorAll("details[id]") ?? []) {
            const same = now?.querySelector(`#${CSS.escape(each.id)}`);
            if (same) same.open = each.open; // what a person unfolded stays so
          }
          if (answer.ok && now && before && now.innerHTML !== before.innerHTML) {
            const chosen = document.activeElement?.getAttribute?.("href");
            before.replaceWith(now);
            if (chosen) now.querySelector(`a[href="${CSS.escape(chosen)}"]`)?.focus();
          }
          const next = page.getElementById("main");
          if (next?.dataset.refresh) main.dataset.refresh = next.dataset.refresh;
          else if (answer.ok) delete main.dataset.refresh;
        } catch { /* the server may come back */ }
      }
      refresh();
    };
    refresh();

    for (const select of document.querySelectorAll(".filters select"))
      select.addEventListener("change", () => select.form.requestSubmit());
    for (const form of document.querySelectorAll("form.filters"))
      form.addEventListener("submit", () => {
        for (const field of form.elements) if (field.name && !field.value) field.disabled = true;
      });

    const filters = document.getElementById("filters");
    if (filters && !("chosen" in filters.dataset) && matchMedia("(max-width: 640px)").matches)
      filters.open = false;

    let place = -1;
    const step = (by) => {
      const steps = [...document.querySelectorAll("[data-step]")].filter((each) => each.checkVisibility());
      if (!steps.length) return;
      place = Math.max(0, Math.min(steps.length - 1, place + by));
      steps.forEach((each, number) => each.classList.toggle("chosen", number === place));
      const to = steps[place].querySelector("a[href], summary") ?? steps[place];
      if (to.tabIndex < 0) to.tabIndex = -1;
      to.focus({ preventScroll: true });
      steps[place].scrollIntoView({ block: "nearest" });
    };
    const follow = (selector) => document.querySelector(selector)?.click();
    document.addEventListener("keydown", (event) => {
      if (event.ctrlKey || event.altKey || event.metaKey) return;
      if (event.target.closest("input, select, textarea, dialog, pre, .scroll")) {
        if (event.key === "Escape") event.target.blur();
        return;
      }
      const acts = {
        j: () => step(1),
        k: () => step(-1),
        "/": () => document.getElementById("search")?.focus(),
        "?": () => help.showModal(),
        t: turnOver,
        u: () => follow(document.querySelector(".crumbs a[href]") ? ".crumbs a[href]" : "nav a.home"),
        s: () => { location.hash = "source"; unfold(); },
        o: () => {
          const chosen = document.querySelector(".chosen") ?? document;
          const folded = [...chosen.querySelectorAll("details")];
          const open = folded.some((each) => !each.open);
          folded.forEach((each) => { each.open = open; });
        },
        ArrowLeft: () => follow("a[rel=prev]"),
        ArrowRight: () => follow("a[rel=next]"),
      };
      if (acts[event.key]) { event.preventDefault(); acts[event.key](); }
    });
  });
})();
