// Keeps the page up to date by server-sent events, and sends the changes that are asked for.
(() => {
  const by = (id) => document.getElementById(id);
  const token = new URLSearchParams(location.search).get("token");
  const query = `?token=${encodeURIComponent(token)}`;
  const source = new EventSource(`events${query}`);
  const setState = (word, kind) => {
    const badge = by("state");
    if (badge.textContent === word) return;
    badge.textContent = word;
    badge.className = `badge ${kind}`;
  };
  const say = (text) => {
    by("said").textContent = text;
    by("said").hidden = !text;
  };
  source.addEventListener("open", () => setState("starting", "warn"));  // limits, workers: no figures yet
  source.addEventListener("now", (event) => {
    const { words, fraction } = JSON.parse(event.data);
    for (const [id, text] of Object.entries(words)) if (id !== "state") by(id).textContent = text;
    setState(words.state, words.state === "running" ? "good" : "warn");
    const bar = by("progress");
    bar.classList.toggle("unknown", fraction === null);
    if (fraction !== null) {
      const share = Math.floor(fraction * 100);
      bar.setAttribute("aria-valuenow", share);
      bar.firstElementChild.style.width = `${share}%`;
      document.title = document.title.replace(/(: ).*$/, `$1${share} %`);
    }
    document.body.dataset.events = Number(document.body.dataset.events ?? 0) + 1;
  });
  source.addEventListener("part", (event) => {
    const { id, html } = JSON.parse(event.data);
    const place = by(id);
    // What somebody reads stays as it is until they look elsewhere.
    if (place.matches(":hover") || place.contains(document.activeElement) || place.querySelector("[open]")) return;
    if (id === "workers") place.closest("section").hidden = false;
    place.innerHTML = html;  // made by fanout, which escapes every text in it
  });
  source.addEventListener("end", (event) => {
    const { state, said } = JSON.parse(event.data);
    source.close();
    setState(state, state === "finished" ? "good" : "warn");
    document.title = document.title.replace(/(: ).*$/, `$1${state}`);
    say(said);
    by("controls").hidden = true;
  });
  source.addEventListener("error", () => setState("connection lost, trying again", "warn"));

  const tune = async (changes) => {
    const answer = by("answer");
    answer.textContent = "…";
    try {
      const reply = await fetch(`tune${query}`, { method: "POST", body: JSON.stringify(changes) });
      const text = await reply.text();
      if (!reply.ok) answer.textContent = `Not changed: ${text}`;
      else {
        const { pause, bounded = [], ...inForce } = JSON.parse(text);
        const now = Object.entries(inForce).filter(([, value]) => value !== null)
          .map(([name, value]) => `${name.replaceAll("_", " ")} ${value}`);
        if (pause) now.unshift("paused");
        answer.textContent = `Now in force: ${[now.join(", "), ...bounded].join("; ")}`;
      }
    } catch {
      answer.textContent = "Not changed: the run does not answer";
    }
  };
  by("tune").addEventListener("submit", (event) => {
    event.preventDefault();
    const changes = {};
    for (const [name, text] of new FormData(event.target)) {
      const value = text.trim();
      if (value) changes[name] = name !== "concurrency" && Number.isFinite(Number(value)) ? Number(value)
        : /^\d+$/.test(value) ? Number(value) : value;
    }
    if (Object.keys(changes).length) tune(changes);
  });
  by("pause").addEventListener("click", () => tune({ pause: true }));
  by("continue").addEventListener("click", () => tune({ pause: false }));
})();
