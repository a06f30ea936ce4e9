// Sets the theme before the first paint: the user's choice, else what the system asks for. See src/app/theme.ts.
(function () {
  var choice = null;
  try {
    choice = localStorage.getItem("runyard.theme");
  } catch {
    // Storage may be refused; then the system decides.
  }
  var isDark =
    choice === "dark" || (choice !== "light" && matchMedia("(prefers-color-scheme: dark)").matches);
  document.documentElement.dataset.theme = isDark ? "dark" : "light";
})();
