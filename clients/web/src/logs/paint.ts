// Styles of a terminal as CSS that can be read in both themes. Pure.
import { type AnsiStyle, type Colour, toHex } from "./ansi";

export interface Paint {
  readonly className: string;
  /** Colours that no class has; --ansi is one that the style sheet makes darker or lighter until it can be read. */
  readonly style: Readonly<Record<string, string>> | undefined;
}

/** xterm's 16; used as they are where a background is given, and by the theme's own otherwise. */
const BASE = [
  "#000000", "#cd0000", "#00cd00", "#cdcd00", "#0000ee", "#cd00cd", "#00cdcd", "#e5e5e5",
  "#7f7f7f", "#ff0000", "#00ff00", "#ffff00", "#5c5cff", "#ff00ff", "#00ffff", "#ffffff",
];
const CUBE = [0, 95, 135, 175, 215, 255];
const CONTRAST_MIN = 4.5;

/** How a style is drawn. */
export function paintOf(style: AnsiStyle): Paint {
  const classes = [
    style.isBold ? "ansi-bold" : "",
    style.isDim ? "ansi-dim" : "",
    style.isItalic ? "ansi-italic" : "",
    style.isUnderlined ? "ansi-underline" : "",
    style.isStruck ? "ansi-strike" : "",
  ].filter((name) => name !== "");
  const foreground = style.isInverse ? style.background : style.foreground;
  const background = style.isInverse ? style.foreground : style.background;
  if (background !== null) return { className: classes.join(" "), style: coloursOn(hexOf(background), foreground) };
  if (style.isInverse) return { className: [...classes, "ansi-inverse"].join(" "), style: foreground === null ? undefined : coloursOn(hexOf(foreground), null) };
  if (foreground === null) return { className: classes.join(" "), style: undefined };
  if (typeof foreground === "number" && foreground < 16) return { className: [...classes, `ansi-${foreground}`].join(" "), style: undefined };
  return { className: [...classes, "ansi-adapted"].join(" "), style: { "--ansi": hexOf(foreground) } };
}

/** A background as it was asked for, and a text that can be read on it. */
function coloursOn(background: string, foreground: Colour | null): Record<string, string> {
  const asked = foreground === null ? null : hexOf(foreground);
  const readable = contrast("#000000", background) >= contrast("#ffffff", background) ? "#000000" : "#ffffff";
  return { backgroundColor: background, color: asked !== null && contrast(asked, background) >= CONTRAST_MIN ? asked : readable };
}

/** #rrggbb of any colour. */
export function hexOf(colour: Colour): string {
  if (typeof colour === "string") return colour;
  if (colour < 16) return BASE[colour] ?? "#000000";
  if (colour >= 232) return toHex(Array<number>(3).fill(8 + 10 * (colour - 232)));
  const index = colour - 16;
  return toHex([Math.floor(index / 36), Math.floor(index / 6) % 6, index % 6].map((one) => CUBE[one] ?? 0));
}

/** Contrast of two colours by WCAG 2: 1 to 21. */
export function contrast(a: string, b: string): number {
  const [low = 0, high = 0] = [luminance(a), luminance(b)].sort((x, y) => x - y);
  return (high + 0.05) / (low + 0.05);
}

function luminance(hex: string): number {
  const [red = 0, green = 0, blue = 0] = [1, 3, 5].map((at) => {
    const part = parseInt(hex.slice(at, at + 2), 16) / 255;
    return part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4;
  });
  return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
}
