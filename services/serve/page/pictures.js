// Pictures that a person gives: chosen, dropped or pasted. They stay in this tab and go to the server unchanged.

import { byId } from "./dom.js";
import { counted } from "./wording.js";

const held = new Map(); // number -> {name, url, base64}
const MIB = 2 ** 20;
const ENDINGS_THAT_ARE_NONE = /\.(txt|md|csv|json|pdf|zip|html?|docx?|xlsx?|mp4|mov|avi|mp3)$/i;

/** A picture that was given in this tab: {name, url, base64}; undefined after a reload. */
export const pictureOf = (number) => held.get(number);

/**
 * Why a file cannot be searched with, before it is sent; null where it may be.
 * Only the server knows what it can decode, so that a strange type is no reason.
 */
export function refusal(file, limit_bytes) {
  const size = file.size / MIB >= 0.1 ? `${(file.size / MIB).toFixed(1)} MiB` : counted(file.size, "byte");
  if (file.size === 0) return `“${file.name}” is empty.`;
  if (file.size > limit_bytes) {
    return `“${file.name}” has ${size}; the server takes pictures of up to ${Math.floor(limit_bytes / MIB)} MiB.`;
  }
  const isOther = file.type ? !file.type.startsWith("image/") && !file.type.startsWith("application/octet") : false;
  if (isOther || ENDINGS_THAT_ARE_NONE.test(file.name)) return `“${file.name}” is not a picture${file.type ? ` but ${file.type}` : ""}.`;
  return null;
}

/** Keep a file as the value of a term. */
export async function hold(file) {
  const address = await dataUrl(file);
  const number = held.size + 1;
  held.set(number, { name: file.name || "pasted picture", url: URL.createObjectURL(file), base64: address.slice(address.indexOf(",") + 1) });
  return number;
}

function dataUrl(file) {
  return new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve(reader.result);
    reader.onerror = () => reject(reader.error);
    reader.readAsDataURL(file);
  });
}

/** Call `take(files)` for whatever is chosen, dropped on the page or pasted into it. */
export function listen(take) {
  const input = byId("file");
  byId("pick").addEventListener("click", () => input.click());
  input.addEventListener("change", () => {
    take([...input.files]);
    input.value = "";
  });
  document.addEventListener("paste", (event) => {
    const files = [...(event.clipboardData?.files ?? [])];
    if (!files.length) return;
    event.preventDefault();
    take(files);
  });
  listenForDrops(take);
}

function listenForDrops(take) {
  const target = byId("drop");
  const hasFiles = (event) => event.dataTransfer?.types.includes("Files");
  let depth = 0; // entering a child fires before leaving its parent
  const show = (change) => {
    depth = change === null ? 0 : Math.max(0, depth + change);
    target.hidden = depth === 0;
  };
  document.addEventListener("dragenter", (event) => hasFiles(event) && show(1));
  document.addEventListener("dragleave", (event) => hasFiles(event) && show(-1));
  document.addEventListener("dragover", (event) => hasFiles(event) && event.preventDefault());
  document.addEventListener("drop", (event) => {
    if (!hasFiles(event)) return;
    event.preventDefault();
    show(null);
    take([...event.dataTransfer.files]);
  });
}
