"use strict";
// Shows the values under the pointer, or under the arrow keys. The drawings stand without it.
(() => {
  const SVG = "http://www.w3.org/2000/svg";
  const reads = new WeakMap();
  const of = (svg) => {
    if (!reads.has(svg)) reads.set(svg, JSON.parse(svg.dataset.hover));
    return reads.get(svg);
  };
  const line = (parent, text, hue) => {
    const p = document.createElement("p");
    if (hue) p.className = `mark ${hue}`;
    p.textContent = text;  // text only: names and keys are strangers'
    parent.append(p);
  };
  const hide = (svg) => {
    svg.parentNode.querySelector(".tip")?.remove();
    svg.querySelector(".cursor")?.remove();
    delete svg.dataset.at;
  };
  const show = (svg, x, fill) => {
    const at = svg.dataset.at;
    hide(svg);
    if (at !== undefined) svg.dataset.at = at;
    const cursor = document.createElementNS(SVG, "path");
    cursor.setAttribute("class", "cursor");
    cursor.setAttribute("d", `M${x * 1000} 0V300`);
    svg.append(cursor);
    const tip = document.createElement("div");
    tip.className = "tip";
    tip.setAttribute("role", "status");
    fill(tip);
    svg.parentNode.append(tip);
    const place = svg.getBoundingClientRect().left - svg.parentNode.getBoundingClientRect().left
      + x * svg.getBoundingClientRect().width;
    const room = svg.parentNode.clientWidth;
    tip.style.left = `${Math.max(0, Math.min(place + 12 + tip.offsetWidth > room ? place - 12 - tip.offsetWidth : place + 12, room - tip.offsetWidth))}px`;
  };
  const showIndex = (svg, data, i) => {
    svg.dataset.at = i;
    show(svg, data.x[i], (tip) => {
      line(tip, data.labels[i]);
      tip.firstChild.style.fontWeight = 600;
      for (const [name, hue, texts] of data.lines) if (texts[i]) line(tip, `${name} ${texts[i]}`, hue);
    });
  };
  const showPoint = (svg, data, i) => {
    svg.dataset.at = i;
    const [x, , text, hue] = data.points[i];
    show(svg, x, (tip) => line(tip, text, hue));
  };
  const nearest = (list, distance) => {
    let best = -1, least = Infinity;
    list.forEach((each, i) => {
      const far = distance(each);
      if (far < least) [best, least] = [i, far];
    });
    return [best, least];
  };
  const point = (event) => {
    const svg = event.target.closest?.(".plot svg");
    if (!svg) return;
    const data = of(svg), box = svg.getBoundingClientRect();
    const x = event.clientX - box.left, y = event.clientY - box.top;
    if (data.points) {
      const [i, far] = nearest(data.points, ([px, py]) => Math.hypot(px * box.width - x, py * box.height - y));
      if (i >= 0 && far < 40) showPoint(svg, data, i); else hide(svg);
    } else if (data.x.length) showIndex(svg, data, nearest(data.x, (px) => Math.abs(px * box.width - x))[0]);
  };
  document.addEventListener("pointermove", point);
  document.addEventListener("pointerdown", point);
  document.addEventListener("pointerout", (event) => {
    const svg = event.target.closest?.(".plot svg");
    if (svg && !svg.contains(event.relatedTarget)) hide(svg);
  });
  document.addEventListener("focusout", (event) => event.target.matches?.(".plot svg") && hide(event.target));
  document.addEventListener("keydown", (event) => {
    if (!event.target.matches?.(".plot svg")) return;
    const svg = event.target, data = of(svg), count = (data.points ?? data.x).length;
    const step = { ArrowRight: 1, ArrowLeft: -1, Home: -Infinity, End: Infinity }[event.key];
    if (event.key === "Escape") hide(svg);
    if (step === undefined || !count) return;
    event.preventDefault();
    const from = svg.dataset.at === undefined ? (step > 0 ? -1 : count) : Number(svg.dataset.at);
    (data.points ? showPoint : showIndex)(svg, data, Math.max(0, Math.min(count - 1, from + step)));
  });
})();
