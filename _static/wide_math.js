// A formula in a line of text cannot be broken. One that is wider than the
// page (a phone) gets a box of its own to scroll in.
document.addEventListener("DOMContentLoaded", () => {
  const fit = () => {
    for (const math of document.querySelectorAll("mjx-container:not([display])")) {
      math.classList.remove("wide");
      const room = math.closest("p, li, dd, td, th, div")?.getBoundingClientRect();
      const box = math.getBoundingClientRect();
      math.classList.toggle("wide", room && box.width > room.width);
    }
  };
  const wait = setInterval(() => {
    if (!document.querySelector(".math")) return clearInterval(wait);
    if (!window.MathJax?.startup?.promise) return;
    clearInterval(wait);
    MathJax.startup.promise.then(fit);
    addEventListener("resize", fit);
  }, 50);
});
