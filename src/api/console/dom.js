// Makes elements and changes them in place, so that what is selected stays selected and what has
// the focus keeps it. Texts from outside (accounts, errors, events) only ever become text nodes.

const SVG = "http://www.w3.org/2000/svg";
const lists = new WeakMap();

export const byId = (id) => document.getElementById(id);

function filled(made, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

export function element(name, attributes = {}, ...children) {
  return filled(document.createElement(name), attributes, children);
}

export function drawn(name, attributes = {}, ...children) {
  return filled(document.createElementNS(SVG, name), attributes, children);
}

/** Gives an element that holds nothing but text this text. */
export function write(node, text) {
  const shown = String(text);
  if (node.firstChild === null) node.append(shown);
  else if (node.firstChild.data !== shown) node.firstChild.data = shown;
}

/** Gives an element an attribute; `null` takes it away. */
export function mark(node, name, value) {
  if (value === null) node.removeAttribute(name);
  else if (node.getAttribute(name) !== String(value)) node.setAttribute(name, value);
}

export function hide(node, hidden) {
  if (node.hidden !== hidden) node.hidden = hidden;
}

/** Whether the reader has selected some of it. */
export function isSelected(node) {
  const selection = getSelection();
  return !selection.isCollapsed && selection.containsNode(node, true);
}

/**
 * Makes the children of a parent those of these items, in their order. A child that stays is
 * changed and not replaced, and none is moved unless the order has changed.
 */
export function list(parent, items, keyOf, make, update) {
  const known = lists.get(parent) ?? new Map();
  const wanted = new Map(items.map((item) => [keyOf(item), item]));
  for (const [key, node] of known) {
    if (!wanted.has(key)) node.remove();
  }
  const kept = new Map();
  let place = parent.firstChild;
  for (const [key, item] of wanted) {
    const node = known.get(key) ?? make(item);
    update(node, item);
    kept.set(key, node);
    if (node === place) place = place.nextSibling;
    else parent.insertBefore(node, place);
  }
  lists.set(parent, kept);
}
