// Makes one declaration file of those tsc writes, one per module: what the entry exports, and what that needs. It knows the
// few shapes tsc writes for our sources and fails on any other, so that nothing is lost unseen.

const IMPORT = /^import (?:type )?\{[^}]*\} from "\.\/([\w-]+)\.(?:js|ts)";\n/gm;
const REEXPORT = /^export (type )?\{([^}]*)\} from "\.\/([\w-]+)\.(?:js|ts)";\n/gm;
const DECLARATION = /^(?:export )?((?:declare )?(?:abstract )?(?:class|interface|type|const|function) (\w+))/;
/** Of classes whose objects the SDK makes. */
const INTERNAL_CONSTRUCTOR = /( *)\/\*\* Made by [^\n]*\*\/\n *constructor\([\s\S]*?\);\n/g;

/** `modules`: declaration texts by module name. Names are unique over all modules, or this throws. */
export function bundleTypes(entry, modules) {
  const wanted = exportsOf(source(modules, entry));
  const declarations = new Map();
  for (const [name, text] of modules) {
    if (name === entry) continue;
    for (const declaration of split(name, text)) {
      if (declarations.has(declaration.name)) throw new Error(`${declaration.name} is declared twice, also in ${name}`);
      declarations.set(declaration.name, declaration.text);
    }
  }
  const needed = new Set();
  const need = (name) => {
    const text = declarations.get(name);
    if (text === undefined || needed.has(name)) return;
    needed.add(name);
    const code = text.replace(/\/\*[\s\S]*?\*\//g, "");
    for (const [word] of code.matchAll(/\w+/g)) need(word);
  };
  for (const { name } of wanted) {
    if (!declarations.has(name)) throw new Error(`${name} is exported and declared nowhere`);
    need(name);
  }
  const texts = [...declarations].filter(([name]) => needed.has(name)).map(([, text]) => text);
  const names = wanted.map(({ name, type }) => `  ${type ? "type " : ""}${name},`);
  return `${texts.join("\n\n")}\n\nexport {\n${names.join("\n")}\n};\n`;
}

/** What the entry hands on; it must do nothing else. */
function exportsOf(text) {
  const rest = text.replace(REEXPORT, "").replace(/\/\*[\s\S]*?\*\//g, "");
  if (rest.trim() !== "") throw new Error(`the entry does more than hand on: ${rest.trim()}`);
  return [...text.matchAll(REEXPORT)].flatMap(([, type, names]) =>
    names
      .split(",")
      .map((name) => name.trim())
      .filter(Boolean)
      .map((name) => ({ name: name.replace(/^type /, ""), type: Boolean(type) || name.startsWith("type ") })),
  );
}

/** A module's declarations, each with the comment before it. */
function split(module, text) {
  const plain = text
    .replace(IMPORT, "")
    .replace(/^export \{\};\n/gm, "")
    .replace(INTERNAL_CONSTRUCTOR, "$1private constructor();\n");
  const found = [];
  let comment = [];
  let comments = 0;
  let lines;
  let name;
  for (const line of plain.split("\n")) {
    if (lines) lines.push(line);
    else if (DECLARATION.test(line)) {
      name = DECLARATION.exec(line)[2];
      // A type that is not exported needs no word; all else must say that it is declared here and is elsewhere.
      const bare = line.replace(/^export /, "");
      lines = [/^(declare|interface|type) /.test(bare) ? bare : `declare ${bare}`];
    } else if (/^(\/\*\*| \*|$)/.test(line)) {
      // Of several comments the last is the declaration's own.
      if (line.startsWith("/**")) {
        comment = [];
        comments += 1;
      }
      if (line !== "") comment.push(line);
      continue;
    } else throw new Error(`${module} has what this does not know: ${line}`);
    if (!isWhole(lines)) continue;
    // The first comment is the module's: right for the class it is about, wrong for an interface that happens to be first.
    const own = comments > 1 || /\bclass /.test(lines[0]);
    found.push({ name, text: [...(own ? comment : []), ...lines].join("\n") });
    lines = undefined;
    comment = [];
  }
  if (lines) throw new Error(`${module} ends within ${name}`);
  return found;
}

/** The declaration that began has ended: its brackets are closed, and its last line ends as such lines do. */
function isWhole(lines) {
  const code = lines.join("\n").replace(/\/\*[\s\S]*?\*\//g, "");
  const open = (code.match(/[{([]/g) ?? []).length - (code.match(/[})\]]/g) ?? []).length;
  return open === 0 && code.endsWith(/^.*\b(class|interface) /.test(lines[0]) ? "}" : ";");
}

function source(modules, name) {
  const text = modules.get(name);
  if (text === undefined) throw new Error(`there is no module ${name}`);
  return text;
}
