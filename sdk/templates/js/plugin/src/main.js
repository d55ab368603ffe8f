// The plugin {{name}}: its functions are those of `wit/plugin.wit`.

export function summarize(text) {
  const words = text.split(/\s+/).filter((word) => word !== "");
  const longest = words.reduce((longest, word) => (word.length > longest.length ? word : longest), "");
  return { words: words.length, longest };
}
