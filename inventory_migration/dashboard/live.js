// Markup that a server sends again and again, patched into the page: what is the same stays as it
// is, with focus, selection, scrolling and opened details. Moments are shown in the viewer's zone.

const zone = Intl.DateTimeFormat().resolvedOptions().timeZone;
const style = { hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" };
const time = new Intl.DateTimeFormat("en-GB", style);
const day = new Intl.DateTimeFormat("en-CA", { year: "numeric", month: "2-digit", day: "2-digit" });

function localize(root) {
  for (const element of root.querySelectorAll("time[datetime]")) {
    const at = new Date(element.dateTime);
    if (isNaN(at)) continue;
    element.title = `${element.dateTime} (shown in ${zone})`;
    const today = day.format(at) === day.format(new Date());
    const short = today || element.dataset.as === "time";
    element.textContent = short ? time.format(at) : `${day.format(at)} ${time.format(at)}`;
  }
}

function patch(have, want) {
  for (const { name } of [...have.attributes]) {
    if (!want.hasAttribute(name) && !(name === "open" && have.tagName === "DETAILS")) {
      have.removeAttribute(name);
    }
  }
  for (const { name, value } of want.attributes) {
    if (have.getAttribute(name) !== value) have.setAttribute(name, value);
  }
  patchChildren(have, want);
}

function patchChildren(have, want) {
  const wanted = [...want.childNodes];
  wanted.forEach((node, n) => {
    const there = have.childNodes[n];
    if (!there) have.append(node);
    else if (there.nodeType !== node.nodeType || there.nodeName !== node.nodeName) {
      there.replaceWith(node);
    } else if (node.nodeType === Node.ELEMENT_NODE) patch(there, node);
    else if (there.data !== node.data) there.data = node.data;
  });
  while (have.childNodes.length > wanted.length) have.lastChild.remove();
}

export default {
  template: "<div></div>",
  props: { markup: String },
  mounted() { this.show(); },
  watch: { markup() { this.show(); } },
  methods: {
    show() {
      const parsed = document.createElement("template");
      parsed.innerHTML = this.markup ?? "";
      localize(parsed.content);
      patchChildren(this.$el, parsed.content);
    },
  },
};
