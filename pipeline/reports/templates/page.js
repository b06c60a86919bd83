// Names and pictures of a map's points on hover, tap and arrow keys, and a filter for long tables.
// Everything else on the page works without this.
"use strict";
(() => {
  const data = document.getElementById("points");
  const all = data ? JSON.parse(data.textContent) : null;
  const REACH_PX = 28;

  const places = (path) => [...path.getAttribute("d").matchAll(/M(-?\d+)[ ]?(-?\d+)/g)].map((m) => [+m[1], +m[2]]);

  function visible(figure, number) {
    const layer = [...figure.querySelectorAll(".layer")].find((g) => getComputedStyle(g).display !== "none");
    if (!layer) return [];
    const chosen = figure.querySelector(".pick input:checked");
    const only = chosen && chosen.value !== "" ? +chosen.value : -1;
    if (!layer.points) {
      layer.points = [...layer.children].flatMap((path, code) =>
        places(path).map(([x, y], i) => ({ x, y, code, row: all.maps[number].rows[code][i] })).filter((p) => p.x >= 0));
    }
    return only < 0 ? layer.points : layer.points.filter((p) => p.code === only);
  }

  function start(figure, number) {
    const stage = figure.querySelector(".stage"), svg = stage.querySelector("svg.points");
    const card = stage.querySelector(".tip"), ring = stage.querySelector(".ring"), sprite = card.querySelector(".tile");
    let current = null;
    svg.querySelectorAll("title").forEach((title) => title.remove());
    stage.tabIndex = 0;
    stage.setAttribute("role", "application");
    stage.setAttribute("aria-label", svg.getAttribute("aria-label") + "; arrow keys go from point to point");

    function hide() { current = null; card.hidden = ring.hidden = true; }

    function show(point) {
      current = point;
      const scale = svg.clientWidth / 1000, x = point.x * scale, y = point.y * scale;
      const name = all.maps[number].classes[point.code] || "without a label", picture = all.pictures[point.row];
      card.querySelector("b").textContent = name;
      card.querySelector("small").textContent = all.ids[point.row];
      sprite.hidden = picture < 0;
      if (picture >= 0) {
        const side = +sprite.dataset.side, columns = +sprite.dataset.columns;
        sprite.style.backgroundPosition = `${-(picture % columns) * side}px ${-Math.floor(picture / columns) * side}px`;
      }
      card.hidden = ring.hidden = false;
      ring.style.left = `${x}px`; ring.style.top = `${y}px`;
      const left = x + 16 + card.offsetWidth > stage.clientWidth ? x - 16 - card.offsetWidth : x + 16;
      const top = y + 12 + card.offsetHeight > stage.clientHeight ? y - 12 - card.offsetHeight : y + 12;
      card.style.left = `${Math.max(0, Math.min(left, stage.clientWidth - card.offsetWidth))}px`;
      card.style.top = `${Math.max(0, top)}px`;
    }

    function nearest(event) {
      const box = svg.getBoundingClientRect(), scale = 1000 / box.width;
      const x = (event.clientX - box.left) * scale, y = (event.clientY - box.top) * scale;
      let best = null, least = (REACH_PX * scale) ** 2;
      for (const p of visible(figure, number)) {
        const far = (p.x - x) ** 2 + (p.y - y) ** 2;
        if (far < least) { least = far; best = p; }
      }
      best ? show(best) : hide();
    }

    // The nearest point in a direction; sideways steps count double, so that one keeps to the way.
    function step(dx, dy) {
      const points = visible(figure, number);
      if (!points.length) return;
      if (!current || !points.includes(current)) {
        const middle = [...points].sort((a, b) => Math.hypot(a.x - 500, a.y - 500) - Math.hypot(b.x - 500, b.y - 500));
        return show(middle[0]);
      }
      let best = null, least = Infinity;
      for (const p of points) {
        const ahead = (p.x - current.x) * dx + (p.y - current.y) * dy;
        const aside = Math.abs((p.x - current.x) * dy) + Math.abs((p.y - current.y) * dx);
        const cost = ahead + 2 * aside;
        if (ahead > 0 && aside <= 2 * ahead && cost < least) { least = cost; best = p; }
      }
      if (best) show(best);
    }

    const ways = { ArrowRight: [1, 0], ArrowLeft: [-1, 0], ArrowDown: [0, 1], ArrowUp: [0, -1] };
    svg.addEventListener("pointermove", nearest);
    svg.addEventListener("pointerdown", nearest);
    stage.addEventListener("pointerleave", (event) => { if (event.pointerType === "mouse") hide(); });
    stage.addEventListener("keydown", (event) => {
      if (event.key === "Escape") return hide();
      const way = ways[event.key];
      if (way) { event.preventDefault(); step(...way); }
    });
    figure.addEventListener("change", hide);
  }

  document.querySelectorAll(".map").forEach(start);

  document.querySelectorAll("[data-filter]").forEach((table) => {
    const field = document.createElement("input");
    field.type = "search";
    field.placeholder = "filter by backbone or method";
    field.setAttribute("aria-label", field.placeholder);
    field.className = "filter";
    field.addEventListener("input", () => {
      const words = field.value.toLowerCase().split(/\s+/);
      for (const row of table.tBodies[0].rows) {
        const text = row.textContent.toLowerCase();
        row.hidden = !words.every((word) => text.includes(word));
      }
    });
    table.before(field);
  });
})();
