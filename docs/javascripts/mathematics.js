// Every formula of a page, by the KaTeX that stands beside it.
document.addEventListener("DOMContentLoaded", () => {
  if (typeof renderMathInElement === "undefined") return;
  const delimiters = [
    { left: "\\(", right: "\\)", display: false },
    { left: "\\[", right: "\\]", display: true },
  ];
  for (const formula of document.querySelectorAll(".arithmatex")) {
    renderMathInElement(formula, { delimiters, throwOnError: false });
  }
});
