import react from "@vitejs/plugin-react";
import { defineConfig } from "vitest/config";

// `npm run dev` serves the sources and passes calls on to a running server (make run, or RUNYARD_BASE_URL).
const server = process.env["RUNYARD_BASE_URL"] ?? "http://127.0.0.1:8080";
const pass = { target: server, changeOrigin: true, headers: { origin: server } };

export default defineConfig({
  plugins: [react()],
  build: {
    target: "es2022",
    // A font given as data: would be loaded with the style sheet, needed or not.
    assetsInlineLimit: 0,
    chunkSizeWarningLimit: 700,
  },
  server: {
    proxy: { "^/runyard\\.": pass, "/.well-known": pass, "^/ready$": pass },
  },
  test: {
    environment: "happy-dom",
    include: ["src/**/*.test.ts", "src/**/*.test.tsx"],
  },
});
