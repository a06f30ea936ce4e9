// Classes of boxes and masks: their colours, the same in both themes since they lie on pictures, and their names.
import { textOf, toNumber, type Bins } from "../api/media";
import { type ExtendedObject, isObject, parseExtendedJson } from "../api/extendedJson";

const COLOURS: readonly (readonly [number, number, number])[] = [
  [230, 159, 0], [0, 158, 255], [0, 190, 140], [240, 80, 70], [205, 120, 255], [245, 225, 60], [255, 130, 190],
  [120, 210, 40], [60, 220, 230], [255, 110, 20], [150, 150, 255], [200, 200, 200],
];

export type ClassLabels = ReadonlyMap<number, string>;

export interface Box {
  /** Fractions of width and height from the upper left corner. */
  readonly left: number;
  readonly top: number;
  readonly width: number;
  readonly height: number;
  readonly classId: number;
  readonly caption: string;
  readonly scores: readonly (readonly [string, number])[];
}

export interface BoxSet {
  readonly name: string;
  readonly boxes: readonly Box[];
  readonly labels: ClassLabels;
}

export interface MaskSet {
  readonly name: string;
  readonly file: string;
  readonly labels: ClassLabels;
}

export function classRgb(id: number): readonly [number, number, number] {
  const index = ((id % COLOURS.length) + COLOURS.length) % COLOURS.length;
  return COLOURS[index] ?? [200, 200, 200];
}

export function classColour(id: number): string {
  return `rgb(${classRgb(id).join(" ")})`;
}

/** Tables for the parts of a filter that turns class ids, the grey of a mask, into colours: red, green, blue, opacity. */
export function maskTables(hidden: ReadonlySet<number>): [string, string, string, string] {
  const ids = Array.from({ length: 256 }, (_, id) => id);
  const channel = (part: 0 | 1 | 2): string => ids.map((id) => ((classRgb(id)[part]) / 255).toFixed(4)).join(" ");
  return [channel(0), channel(1), channel(2), ids.map((id) => (hidden.has(id) ? 0 : 1)).join(" ")];
}

export function readLabels(object: ExtendedObject): ClassLabels {
  const labels = object["class_labels"];
  if (labels === undefined || !isObject(labels)) return new Map();
  return new Map(
    Object.entries(labels).flatMap(([id, name]): [number, string][] =>
      Number.isInteger(Number(id)) && typeof name === "string" ? [[Number(id), name]] : [],
    ),
  );
}

/** Name of the file that holds the boxes and masks of an image that has too many to lie beside it; "" if there is none. */
export function annotationsFileOf(item: ExtendedObject): string {
  return textOf(item, "annotations_file");
}

/** Returns the image with the boxes and masks of its file; as it is if the file holds none. */
export function withAnnotations(item: ExtendedObject, text: string): ExtendedObject {
  try {
    const found = parseExtendedJson(text);
    return isObject(found) ? { ...item, ...found } : item;
  } catch {
    return item;
  }
}

export function readBoxSets(item: ExtendedObject): BoxSet[] {
  return sets(item["boxes"]).map(([name, content]) => {
    const data = content["box_data"];
    return { name, labels: readLabels(content), boxes: Array.isArray(data) ? data.flatMap((box) => (isObject(box) ? readBox(box) : [])) : [] };
  });
}

export function readMaskSets(item: ExtendedObject): MaskSet[] {
  return sets(item["masks"])
    .map(([name, content]) => ({ name, file: textOf(content, "file"), labels: readLabels(content) }))
    .filter(({ file }) => file !== "");
}

function sets(value: ExtendedObject[string] | undefined): [string, ExtendedObject][] {
  if (value === undefined || !isObject(value)) return [];
  return Object.entries(value).flatMap(([name, content]): [string, ExtendedObject][] => (isObject(content) ? [[name, content]] : []));
}

function readBox(box: ExtendedObject): Box[] {
  const position = box["position"];
  if (position === undefined || !isObject(position)) return [];
  const [left, right, top, bottom] = ["minX", "maxX", "minY", "maxY"].map((field) => toNumber(position[field]) ?? Number.NaN) as [number, number, number, number];
  if (![left, right, top, bottom].every(Number.isFinite)) return [];
  const scores = box["scores"];
  return [
    {
      left, top, width: Math.max(0, right - left), height: Math.max(0, bottom - top),
      classId: toNumber(box["class_id"]) ?? 0,
      caption: textOf(box, "box_caption"),
      scores:
        scores !== undefined && isObject(scores)
          ? Object.entries(scores).flatMap(([name, value]): [string, number][] => {
              const number = toNumber(value);
              return number === null ? [] : [[name, number]];
            })
          : [],
    },
  ];
}

/** Number of values that lie in bins. */
export function binsTotal({ counts }: Bins): number {
  return counts.reduce((sum, count) => sum + count, 0);
}
