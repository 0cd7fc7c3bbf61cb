// What the pages do by themselves: they follow Airflow's theme, stay up to date, and post decisions as JSON.
"use strict";

const framed = window.parent !== window;

function outer() {
  try {
    return framed ? window.parent.document : null;
  } catch {
    return null;  // framed by something else
  }
}

// -- Airflow's theme: a class of its own document, or what it has stored; else what the system prefers ------------------
function follow() {
  const airflow = outer();
  let theme = null;
  if (airflow) {
    theme = ["dark", "light"].find((name) => airflow.documentElement.classList.contains(name));
  }
  if (!theme) {
    try {
      theme = ["dark", "light"].find((name) => localStorage.getItem("theme") === name);
    } catch {
      theme = null;
    }
  }
  if (theme) {
    document.documentElement.dataset.theme = theme;
  } else {
    delete document.documentElement.dataset.theme;
  }
  background();
}

// What is behind Airflow's frame goes on within it.
function background() {
  let behind = outer() && window.frameElement;
  while (behind) {
    const colour = window.parent.getComputedStyle(behind).backgroundColor;
    if (colour && colour !== "transparent" && !/^rgba\(.*, 0\)$|\/ 0\)$/.test(colour)) {
      document.documentElement.style.setProperty("--bg", colour);
      return;
    }
    behind = behind.parentElement;
  }
}
follow();
document.documentElement.dataset.script = "";
if (outer()) {
  new window.MutationObserver(() => setTimeout(follow)).observe(outer().documentElement, { attributes: true, attributeFilter: ["class"] });
}
addEventListener("storage", follow);

// -- links into Airflow: Airflow's frame lets a page lead nowhere but within itself, so Airflow's own document does it ---
addEventListener("click", (event) => {
  const link = event.target.closest("a[data-airflow], a[data-outside]");
  const airflow = outer();
  if (!link || !airflow) {
    return;
  }
  event.preventDefault();
  const own = airflow.createElement("a");
  own.href = link.href;
  if (event.ctrlKey || event.metaKey || event.shiftKey || "outside" in link.dataset) {
    own.target = "_blank";
    own.rel = "noopener";
  }
  airflow.body.append(own);
  own.click();
  own.remove();
});

// -- what is wrong, above the page -----------------------------------------------------------------------------------
function notice(text, login) {
  const place = document.getElementById("notice");
  if (!place) {
    return;
  }
  place.hidden = !text;
  if (place.textContent !== text) {
    place.textContent = text;
  }
  if (login) {
    const link = document.createElement("a");
    link.dataset.airflow = "";
    link.href = document.querySelector("link[rel=stylesheet]").href.replace(/\/sendoso\/static\/.*/, "/");
    link.textContent = "Log in to Airflow";
    place.append(" ", link);
  }
}

// -- live: the marked parts of the page are read again ----------------------------------------------------------------
async function refresh() {
  let again = Number(document.body.dataset.live);
  try {
    if (!document.hidden) {
      const answer = await fetch(location.href, { headers: { Accept: "text/html" } });
      if (answer.status === 401) {
        notice("Your login has ended. What you see is from before.", true);
        return;
      }
      const page = new DOMParser().parseFromString(await answer.text(), "text/html");
      if (answer.ok) {
        notice("");
        again = Number(page.body.dataset.live) || again;
        put(page);
      } else {
        const why = page.querySelector("main [role=alert]")?.textContent ?? `Airflow answered ${answer.status}.`;
        notice(`This page is not up to date. ${why}`);
        again = 10;
      }
    }
  } catch {
    notice("This page is not up to date: Airflow does not answer.");
    again = 10;
  }
  setTimeout(refresh, again * 1000);
}

function put(page) {
  for (const now of page.querySelectorAll("[data-live-part]")) {
    const then = document.querySelector(`[data-live-part="${now.dataset.livePart}"]`);
    if (!then || then.innerHTML === now.innerHTML) {
      continue;
    }
    const places = "a, button, summary, input, [tabindex]";
    const at = [...then.querySelectorAll(places)].indexOf(document.activeElement);
    const open = [...then.querySelectorAll("details")].map((details) => details.open);
    then.replaceChildren(...now.cloneNode(true).childNodes);
    then.querySelectorAll("details").forEach((details, place) => { details.open = open[place] ?? false; });
    if (at >= 0) {
      then.querySelectorAll(places)[at]?.focus();
    }
  }
}

// -- parts that take longer than the page --------------------------------------------------------------------------------
async function load(part) {
  let again = 30;
  try {
    const began = performance.now();
    const answer = document.hidden ? null : await fetch(part.dataset.loads);
    if (answer?.status === 401) {
      return;  // the page itself says so
    }
    if (answer?.ok) {
      const text = await answer.text();
      again = Math.max(again, (performance.now() - began) / 50);
      if (part.dataset.last !== text) {
        const open = part.querySelector("details")?.open;
        part.innerHTML = text;
        part.dataset.last = text;
        const details = part.querySelector("details");
        if (details) {
          details.open = Boolean(open);
        }
      }
    }
  } catch { /* the page itself says so */ }
  if (document.body.dataset.live) {
    setTimeout(load, again * 1000, part);
  }
}

// -- forms ------------------------------------------------------------------------------------------------------------
async function post(form) {
  const given = new FormData(form);
  const body = { conn: form.dataset.conn };
  for (const [name, value] of given) {
    if (name !== "send") {
      body[name] = value;
    }
  }
  if ("decides" in form.dataset) {
    const chosen = [...form.querySelectorAll("input[name=send]:checked")];
    if (!chosen.length) {
      return "<p>Choose a send first.</p>";
    }
    body.sends = chosen.map((box) => ({ key: box.value, state: box.dataset.state, attempt: Number(box.dataset.attempt) }));
  }
  const answer = await fetch(form.dataset.posts, {
    method: "POST",
    headers: { "Content-Type": "application/json", "X-Sendoso-Pages": "1" },
    body: JSON.stringify(body),
  });
  const text = await answer.text();
  if (answer.ok) {
    notice("");
    return text;
  }
  let why = `Airflow answered ${answer.status}.`;
  try {
    why = JSON.parse(text).detail || why;
  } catch { /* not ours: a proxy's */ }
  if (answer.status === 401) {
    notice("Your login has ended. Nothing was changed.", true);
    return "";
  }
  const said = document.createElement("p");
  said.className = "wrong";
  said.textContent = why;
  return said.outerHTML;
}

addEventListener("submit", async (event) => {
  const form = event.target;
  if (!form.dataset.posts) {
    return;
  }
  event.preventDefault();
  const button = form.querySelector("button");
  const into = document.getElementById(form.dataset.into ?? "outcome");
  button.disabled = true;
  into.setAttribute("aria-busy", "true");
  try {
    into.innerHTML = await post(form);
  } catch {
    into.innerHTML = "<p class='wrong'>Airflow does not answer. Load this page again before you go on.</p>";
  } finally {
    button.disabled = false;
    into.removeAttribute("aria-busy");
  }
  const decided = into.querySelector("[data-decided]");
  for (const key of decided?.dataset.decided.split(" ") ?? []) {
    document.querySelector(`tr[data-key="${key}"]`)?.remove();
  }
  if (decided) {
    form.reset();
    count();
    into.scrollIntoView({ block: "nearest" });
  }
});

function count() {
  for (const place of document.querySelectorAll("[data-chosen]")) {
    place.textContent = place.closest("form").querySelectorAll("input[name=send]:checked").length;
  }
}

addEventListener("change", (event) => {
  if ("submits" in event.target.dataset) {
    event.target.form.requestSubmit();
  }
  if ("all" in event.target.dataset) {
    event.target.form.querySelectorAll("input[name=send]").forEach((box) => { box.checked = event.target.checked; });
  }
  count();
});

addEventListener("DOMContentLoaded", () => {
  if (document.body.dataset.live) {
    setTimeout(refresh, Number(document.body.dataset.live) * 1000);
  }
  document.querySelectorAll("[data-loads]").forEach(load);
});
