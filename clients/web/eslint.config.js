import js from "@eslint/js";
import hooks from "eslint-plugin-react-hooks";
import globals from "globals";
import tseslint from "typescript-eslint";

// What each folder of src/ may import. A feature knows api, charts and ui, never another feature; app puts them together.
const FEATURES = ["projects", "runs", "workspace", "run", "system", "logs", "files", "media", "trash"];
const MAY_IMPORT = {
  ui: ["ui"],
  charts: ["charts"],
  api: ["api", "charts", "gen"],
  ...Object.fromEntries(FEATURES.map((name) => [name, [name, "api", "charts", "ui"]])),
  app: ["app", "api", "charts", "ui", ...FEATURES],
};
const FOLDERS = [...Object.keys(MAY_IMPORT), "gen"];

const boundaries = Object.entries(MAY_IMPORT).map(([folder, allowed]) => ({
  files: [`src/${folder}/**/*.{ts,tsx}`],
  rules: {
    "no-restricted-imports": [
      "error",
      {
        patterns: [
          {
            group: FOLDERS.filter((name) => !allowed.includes(name)).flatMap((name) => [
              `../${name}/*`,
              `../../${name}/*`,
            ]),
            message: `${folder}/ may import only: ${allowed.join(", ")} (see README.md)`,
          },
          ...(folder === "charts" ? [{ group: ["react", "react-*"], message: "charts/ knows no React" }] : []),
        ],
      },
    ],
  },
}));

export default tseslint.config(
  { ignores: ["dist", "node_modules", "src/gen"] },
  js.configs.recommended,
  ...tseslint.configs.strict,
  ...tseslint.configs.stylistic,
  {
    files: ["src/**/*.{ts,tsx}"],
    plugins: { "react-hooks": hooks },
    languageOptions: { globals: globals.browser },
    rules: {
      "react-hooks/rules-of-hooks": "error",
      "react-hooks/exhaustive-deps": "error",
      "@typescript-eslint/no-explicit-any": "error",
      "@typescript-eslint/consistent-type-imports": "error",
      "no-console": "error",
      "max-lines": ["error", { max: 500, skipBlankLines: true, skipComments: true }],
    },
  },
  { files: ["public/*.js"], languageOptions: { globals: globals.browser } },
  ...boundaries,
);
