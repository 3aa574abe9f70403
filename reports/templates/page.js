"use strict";
// Theme, tabs, charts (inflated and drawn when they come into view), CSV, copy. No address is ever asked for.
(() => {
  const root = document.documentElement;
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const button = document.getElementById("theme");
  const drawn = new Set();
  let chosen = null;

  const css = (name) => getComputedStyle(root).getPropertyValue(name).trim();
  const themed = (value) => {
    if (typeof value === "string") return value.replace(/var\((--[a-z0-9-]+)\)/g, (_, name) => css(name));
    if (Array.isArray(value)) return value.map(themed);
    if (value && typeof value === "object") return Object.fromEntries(Object.entries(value).map(([k, v]) => [k, themed(v)]));
    return value;
  };
  const setTheme = (name) => {
    root.dataset.theme = name;
    button.textContent = name === "dark" ? "Light" : "Dark";
    button.setAttribute("aria-label", `Switch to ${name === "dark" ? "light" : "dark"} colours`);
  };
  const follow = () => setTheme(chosen || (dark.matches ? "dark" : "light"));
  follow();

  const text = (id) => document.getElementById(id).textContent;
  const inflate = (id) => {
    const bytes = Uint8Array.from(atob(text(id)), (c) => c.charCodeAt(0));
    return new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"))).text();
  };

  const draw = (plot) => {
    const { data, layout } = themed(JSON.parse(text(plot.dataset.figure)));
    layout.autosize = true;
    if (matchMedia("(pointer: coarse)").matches) layout.dragmode = false;
    const options = { responsive: true, displayModeBar: false, displaylogo: false };
    drawn.add(plot);
    return Plotly.react(plot, data, layout, options);
  };
  const plots = () => [...document.querySelectorAll(".plot")];
  const visible = (plot) => plot.offsetParent !== null;
  const redraw = () => drawn.forEach((plot) => visible(plot) ? draw(plot) : drawn.delete(plot));

  button.addEventListener("click", () => {
    chosen = root.dataset.theme === "dark" ? "light" : "dark";
    follow();
    redraw();
  });
  dark.addEventListener("change", () => { follow(); redraw(); });

  document.addEventListener("change", (event) => {
    const tabs = event.target.closest(".tabs > .bar") && event.target.closest(".tabs");
    if (!tabs) return;
    for (const panel of tabs.querySelectorAll(":scope > .tab")) panel.hidden = panel.id !== event.target.value;
  });

  document.addEventListener("click", async (event) => {
    const asked = event.target.closest("button");
    if (asked?.dataset.csv) {
      const link = document.createElement("a");
      link.href = URL.createObjectURL(new Blob([await inflate(asked.dataset.csv)], { type: "text/csv" }));
      link.download = `${asked.dataset.name}.csv`;
      link.click();
      URL.revokeObjectURL(link.href);
    } else if (asked?.dataset.copy) {
      const source = document.getElementById(asked.dataset.copy);
      try {
        await navigator.clipboard.writeText(source.textContent);
        asked.textContent = "copied";
      } catch {
        getSelection().selectAllChildren(source);
        asked.textContent = "selected";
      }
    }
  });

  const start = async () => {
    const script = document.createElement("script");
    script.textContent = await inflate("plotly");
    document.head.append(script);
    const seen = new IntersectionObserver((entries) => {
      for (const { target, isIntersecting } of entries) if (isIntersecting && !drawn.has(target)) draw(target);
    }, { rootMargin: "400px" });
    plots().forEach((plot) => seen.observe(plot));
    root.dataset.charts = "ready";
  };
  const failed = (error) => {
    for (const plot of plots()) plot.textContent = `This chart needs a newer browser (${error.message}). Its rows are in the data link.`;
  };
  // After the text is on the screen.
  requestAnimationFrame(() => setTimeout(() => start().catch(failed)));

  addEventListener("beforeprint", () => {
    root.classList.add("printing");
    setTheme("light");
    if (window.Plotly) plots().filter(visible).forEach(draw);
  });
  addEventListener("afterprint", () => {
    root.classList.remove("printing");
    follow();
    redraw();
  });
})();
