"use strict";
(() => {
  const PAGE = 60;
  const VIEWS = [["overlay", "Overlay"], ["photo", "Photo"], ["labels", "Mask"]];
  const COMPARE = ["compare", "Compare"];
  const data = JSON.parse(document.getElementById("data").textContent);
  const probes = new Map(data.probes.map((probe) => [probe.id, probe]));
  const byId = new Map(data.images.map((image) => [image.id, image]));
  const $ = (id) => document.getElementById(id);
  const collator = new Intl.Collator("en", { numeric: true });

  // ---- what is shown follows from the part of the address after #, and from nothing else ----

  function readState() {
    const given = new URLSearchParams(location.hash.slice(1));
    const probe = probes.has(given.get("probe")) ? given.get("probe") : data.probes[0]?.id;
    const chosen = Number.parseInt(given.get("class") ?? "", 10);
    return {
      probe,
      chosen: probes.get(probe)?.classes[chosen] ? chosen : null,
      query: given.get("q") ?? "",
      sort: given.get("sort") ?? (given.has("class") ? "share" : "given"),
      view: VIEWS.some(([name]) => name === given.get("view")) ? given.get("view") : "overlay",
      large: given.get("large") ?? given.get("view") ?? "overlay",  // the large view, which leaves the grid as it was
      page: Math.max(1, Number.parseInt(given.get("page") ?? "1", 10) || 1),
      image: byId.get(Number.parseInt(given.get("image") ?? "", 10)) ?? null,
    };
  }

  function hashOf(changes) {
    const given = new URLSearchParams(location.hash.slice(1));
    given.delete("all");
    for (const [key, value] of Object.entries(changes)) {
      if (value === null || value === "") given.delete(key);
      else given.set(key, String(value));
    }
    return `#${given.size ? given : "all"}`;  // a bare # would jump to the top of the page
  }

  function go(changes, { remember = false } = {}) {
    const hash = hashOf(changes);
    if (remember) location.hash = hash;
    else location.replace(hash);
  }

  // ---- small helpers ----

  function el(tag, properties = {}, ...children) {
    const node = document.createElement(tag);
    for (const [key, value] of Object.entries(properties)) {
      if (key === "style") for (const [name, part] of Object.entries(value)) node.style.setProperty(name, part);
      else if (key.startsWith("aria-")) node.setAttribute(key, value);
      else node[key] = value;
    }
    node.append(...children.filter((child) => child !== null));
    return node;
  }

  function percent(share) {
    const number = share >= 0.0995 ? (share * 100).toFixed(0) : share >= 0.001 ? (share * 100).toFixed(1) : "<0.1";
    return `${share > 0 ? number : 0}\u202f%`;
  }

  function swatch(colour) {
    return el("i", { className: "swatch", style: { background: colour } });
  }

  function sharesOf(image, probe) {
    return image.probes[probe]?.shares ?? [];
  }

  function shareOf(image, probe, chosen) {
    return sharesOf(image, probe).find(([id]) => id === chosen)?.[1] ?? 0;
  }

  function pictureOf(image, probe, view) {
    const results = image.probes[probe] ?? {};
    const order = view === "photo" ? ["photo"] : view === "labels" ? ["labels", "overlay"] : ["overlay", "labels"];
    for (const kind of [...order, "photo"]) {
      const address = kind === "photo" ? image.photo : results[kind];
      if (address) return [kind, address];
    }
    return ["photo", image.photo];
  }

  function inWords(image, probe) {
    const classes = probes.get(probe).classes;
    return sharesOf(image, probe).slice(0, 3).map(([id, share]) => `${classes[id].name} ${percent(share)}`).join(", ");
  }

  function picture(image, probe, view, extra = {}) {
    const [kind, address] = pictureOf(image, probe, view);
    const what = { overlay: "Overlay", labels: "Mask", photo: "Photo" }[kind];
    const node = el("img", { decoding: "async", alt: `${what} of ${image.name}: ${inWords(image, probe)}`, ...extra });
    if (kind === "labels") node.classList.add("mask");
    node.addEventListener("error", () => {
      const why = kind === "photo"
        ? "This browser cannot show the photo: it was moved, or it is of a kind that browsers do not read."
        : "This picture is no longer where it was written.";
      node.replaceWith(el("p", { className: "missing" }, why));
    });
    node.src = address;
    return node;
  }

  function choice(holder, options, current, pick) {
    if (!holder.childElementCount) {  // made once, so that the focus stays where it is
      for (const [value, text] of options) {
        const button = el("button", { type: "button", value }, text);
        button.addEventListener("click", () => pick(value));
        holder.append(button);
      }
      holder.hidden = options.length < 2;
    }
    for (const button of holder.children) button.setAttribute("aria-pressed", String(button.value === current));
  }

  const probeOptions = data.probes.map((probe) => [probe.id, probe.title]);

  // ---- the grid ----

  function selected(state) {
    const query = state.query.toLowerCase();
    const images = data.images.filter((image) =>
      image.name.toLowerCase().includes(query)
      && (state.chosen === null || shareOf(image, state.probe, state.chosen) > 0));
    const share = (image) => state.chosen === null
      ? sharesOf(image, state.probe)[0]?.[1] ?? 0
      : shareOf(image, state.probe, state.chosen);
    const compare = {
      name: (a, b) => collator.compare(a.name, b.name),
      share: (a, b) => share(b) - share(a),
      classes: (a, b) => sharesOf(b, state.probe).length - sharesOf(a, state.probe).length,
      size: (a, b) => b.height * b.width - a.height * a.width,
    }[state.sort];
    return compare ? images.sort(compare) : images;
  }

  function topClasses(image, state) {
    const classes = probes.get(state.probe).classes;
    const shares = sharesOf(image, state.probe);
    const shown = shares.slice(0, 3);
    const chosen = shares.find(([id]) => id === state.chosen);
    if (chosen && !shown.includes(chosen)) shown.splice(2, 1, chosen);
    return el("ul", { className: "tops" }, ...shown.map(([id, share]) =>
      el("li", { className: id === state.chosen ? "chosen" : "" },
        swatch(classes[id].colour), `${classes[id].name} ${percent(share)}`)));
  }

  function band(image, probe) {
    const classes = probes.get(probe).classes;
    return el("div", { className: "band", "aria-hidden": "true" }, ...sharesOf(image, probe).map(([id, share]) =>
      el("i", { style: { "flex-grow": share, background: classes[id].colour } })));
  }

  function notesOf(image) {
    const notes = image.earlier ? ["from an earlier run", ...image.notes] : image.notes;
    return notes.length ? el("ul", { className: "notes" }, ...notes.map((note) => el("li", {}, note))) : null;
  }

  function linksOf(image, probe) {
    const results = image.probes[probe] ?? {};
    const link = (address, text) => (address ? el("a", { href: address, target: "_blank", rel: "noopener" }, text) : null);
    return [link(results.labels, "mask"), link(image.photo, "original")];
  }

  function card(image, state) {
    const link = el("a", { className: "thumb", href: hashOf({ image: image.id }) },
      picture(image, state.probe, state.view, { loading: "lazy" }));
    link.dataset.id = image.id;
    const shape = image.width / image.height;
    link.classList.toggle("extreme", shape > 3 || shape < 1 / 2);
    return el("li", { className: "card" },
      link,
      band(image, state.probe),
      el("div", { className: "body" },
        el("h3", { title: image.name }, el("bdi", {}, image.name)),
        topClasses(image, state),
        notesOf(image),
        el("p", { className: "sub" }, `${image.width} × ${image.height}`, ...linksOf(image, state.probe))));
  }

  function showCount(images, state, pages) {
    const noun = images.length === 1 ? "image" : "images";
    const parts = [`${images.length} ${noun}`];
    if (state.chosen !== null) parts.push(` with ${probes.get(state.probe).classes[state.chosen].name}`);
    if (pages > 1) parts.push(`, page ${state.page} of ${pages}`);
    if (state.chosen !== null || state.query) {
      const clear = el("button", { type: "button" }, "show all");
      clear.addEventListener("click", () => {
        go({ class: null, q: null, page: null, sort: null });
        $("gallery-start").focus({ preventScroll: true });
      });
      parts.push(clear);
    }
    $("count").replaceChildren(...parts);
  }

  function showPager(page, pages) {
    const near = [1, page - 2, page - 1, page, page + 1, page + 2, pages].filter((n) => n >= 1 && n <= pages);
    const buttons = [...new Set(near)].flatMap((number, index, all) => {
      const button = el("button", { type: "button" }, String(number));
      if (number === page) button.setAttribute("aria-current", "page");
      button.setAttribute("aria-label", `Page ${number}`);
      button.addEventListener("click", () => turnTo(number));
      return index && number > all[index - 1] + 1 ? ["…", button] : [button];
    });
    const step = (text, label, number) => {
      const button = el("button", { type: "button", disabled: number < 1 || number > pages, "aria-label": label }, text);
      button.addEventListener("click", () => turnTo(number));
      return button;
    };
    $("pager").replaceChildren(step("‹", "Previous page", page - 1), ...buttons, step("›", "Next page", page + 1));
    $("pager").hidden = pages < 2;
  }

  function turnTo(page) {
    go({ page: page === 1 ? null : page });
    $("gallery-start").focus();
  }

  let drawn = "";

  function showGrid(state) {
    const wanted = JSON.stringify({ ...state, image: null, large: null });
    if (wanted === drawn) return;  // only the large view changed
    drawn = wanted;
    const images = selected(state);
    const pages = Math.max(1, Math.ceil(images.length / PAGE));
    state.page = Math.min(state.page, pages);
    const shown = images.slice((state.page - 1) * PAGE, state.page * PAGE);
    $("grid").replaceChildren(...shown.map((one) => card(one, state)));
    if (!shown.length) {
      $("grid").append(el("li", { className: "empty" }, data.images.length ? "No image fits." : "No image has results."));
    }
    showCount(images, state, pages);
    showPager(state.page, pages);
    choice($("views"), VIEWS, state.view, (value) => go({ view: value }));
    choice($("probes"), probeOptions, state.probe, (value) => go({ probe: value, class: null, page: null }));
    if (document.activeElement !== $("search")) $("search").value = state.query;
    $("sort").value = state.sort;
    for (const part of document.querySelectorAll("[data-probe]")) {
      if (part.dataset.class === undefined) part.hidden = part.dataset.probe !== state.probe;
      else part.setAttribute("aria-pressed", String(Number(part.dataset.class) === state.chosen));
    }
  }

  // ---- the large view ----

  function frame(image, ...layers) {
    const shape = image.width / image.height;
    return el("div", {
      className: "frame",
      style: { width: `min(100%, calc(var(--stage) * ${shape}))`, "aspect-ratio": `${image.width} / ${image.height}`, "--cut": "50%" },
    }, ...layers);
  }

  function showStage(image, state) {
    if (state.large !== "compare") {
      $("stage").replaceChildren(frame(image, picture(image, state.probe, state.large)));
      return;
    }
    const top = picture(image, state.probe, "overlay", { className: "top" });
    const both = frame(image, picture(image, state.probe, "photo"), top, el("i", { className: "cut" }));
    const slider = el("input", {
      type: "range", className: "slider", min: 0, max: 100, value: 50, step: 0.5, "aria-label": "Photo on the left, overlay on the right",
    });
    slider.addEventListener("input", () => both.style.setProperty("--cut", `${slider.value}%`));
    $("stage").replaceChildren(both, slider);
  }

  function showSide(image, state) {
    const classes = probes.get(state.probe).classes;
    const most = sharesOf(image, state.probe)[0]?.[1] ?? 1;
    const rows = sharesOf(image, state.probe).map(([id, share]) => el("li", { className: "row" },
      swatch(classes[id].colour), el("span", {}, classes[id].name), el("b", {}, percent(share)),
      el("i", { className: "meter", style: { width: `calc(${share / most} * (100% - 28px))`, background: classes[id].colour } })));
    const results = image.probes[state.probe] ?? {};
    const probabilities = results.probs ? el("a", { href: results.probs }, "probabilities") : null;
    const time = image.seconds ? `, ${image.seconds.toFixed(2)} s` : "";
    $("viewer-side").replaceChildren(
      el("div", {}, el("h3", {}, `Classes (${probes.get(state.probe).title})`), el("ul", {}, ...rows)),
      el("div", {}, el("h3", {}, "Image"), el("p", {}, `${image.width} × ${image.height} pixels${time}`)),
      ...[notesOf(image)].filter(Boolean).map((notes) => el("div", {}, el("h3", {}, "Notes"), notes)),
      el("div", { className: "links" }, ...linksOf(image, state.probe).filter(Boolean), ...(probabilities ? [probabilities] : [])),
      el("p", { className: "keys" }, el("kbd", {}, "←"), " ", el("kbd", {}, "→"), " other images, ", el("kbd", {}, "1"), " – ",
        el("kbd", {}, "4"), " what is shown, ", el("kbd", {}, "Esc"), " back"));
  }

  let neighbours = [null, null];

  function showViewer(state) {
    const viewer = $("viewer"), image = state.image;
    if (!image) {
      if (!viewer.open) return;
      viewer.close();
      document.querySelector(`.thumb[data-id="${viewer.dataset.id}"]`)?.focus();
      return;
    }
    viewer.dataset.id = image.id;
    const images = selected(state);
    const place = images.indexOf(image);
    neighbours = [images[place - 1] ?? null, place < 0 ? null : images[place + 1] ?? null];
    $("viewer-name").textContent = image.name;
    $("viewer-name").title = image.name;
    $("viewer-place").textContent = place < 0 ? "" : `${place + 1} of ${images.length}`;
    $("viewer-previous").disabled = !neighbours[0];
    $("viewer-next").disabled = !neighbours[1];
    choice($("viewer-views"), [...VIEWS, COMPARE], state.large, (value) => go({ large: value }));
    choice($("viewer-probes"), probeOptions, state.probe, (value) => go({ probe: value, class: null }));
    showStage(image, state);
    showSide(image, state);
    if (!viewer.open) {
      viewer.showModal();
      $("viewer-views").querySelector("[aria-pressed=true]")?.focus();
    }
    for (const other of neighbours) if (other) new Image().src = pictureOf(other, state.probe, state.large)[1];
  }

  function turn(step) {
    const other = neighbours[step];
    if (other) go({ image: other.id });
  }

  function onKey(event) {
    if (!$("viewer").open || event.ctrlKey || event.metaKey || event.altKey) return;
    const sliding = event.target instanceof HTMLInputElement;
    const view = [...VIEWS, COMPARE][Number(event.key) - 1];
    if (event.key === "ArrowLeft" && !sliding) turn(0);
    else if (event.key === "ArrowRight" && !sliding) turn(1);
    else if (view) go({ large: view[0] });
    else return;
    event.preventDefault();
  }

  function closeViewer() {
    go({ image: null, large: null });
  }

  // ---- start ----

  function show() {
    const state = readState();
    if (!state.probe) return;
    showGrid({ ...state });
    showViewer(state);
  }

  function isPale(colour) {
    const [red, green, blue] = [1, 3, 5].map((start) => Number.parseInt(colour.slice(start, start + 2), 16) / 255)
      .map((level) => (level <= 0.04045 ? level / 12.92 : ((level + 0.055) / 1.055) ** 2.4));
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue > 0.18;
  }

  for (const part of document.querySelectorAll("[data-colour]")) part.classList.toggle("pale", isPale(part.dataset.colour));
  for (const button of document.querySelectorAll("button[data-class]")) {
    button.addEventListener("click", () => {
      const pressed = button.getAttribute("aria-pressed") === "true";
      go({ probe: button.dataset.probe, class: pressed ? null : button.dataset.class, page: null });
    });
  }
  document.querySelector(".skip").addEventListener("click", (event) => {
    event.preventDefault();
    $("gallery-start").focus();
  });
  if (matchMedia("(max-width: 900px)").matches) {
    for (const legend of document.querySelectorAll(".legend > details")) legend.open = false;
  }
  let waiting = 0;
  $("search").addEventListener("input", () => {
    clearTimeout(waiting);
    waiting = setTimeout(() => go({ q: $("search").value, page: null }), 150);
  });
  $("sort").addEventListener("change", () => go({ sort: $("sort").value, page: null }));
  $("grid").addEventListener("click", (event) => {
    const thumb = event.target.closest(".thumb");
    if (!thumb || event.ctrlKey || event.metaKey || event.shiftKey) return;
    event.preventDefault();
    go({ image: thumb.dataset.id }, { remember: true });
  });
  $("viewer-previous").addEventListener("click", () => turn(0));
  $("viewer-next").addEventListener("click", () => turn(1));
  $("viewer-close").addEventListener("click", closeViewer);
  $("viewer").addEventListener("cancel", (event) => {
    event.preventDefault();
    closeViewer();
  });
  document.addEventListener("keydown", onKey);
  addEventListener("hashchange", show);
  $("toolbar").hidden = false;
  show();
})();
