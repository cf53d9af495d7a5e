// What a page does by itself: its title, its address, its colours, and knowing that it has lost the
// dashboard, in which case nobody else can say so.

const SILENT_AFTER = 6000;

export default {
  template: `
    <div class="lost" role="alert" data-testid="truth-lost" v-show="lost">
      <strong><span aria-hidden="true">✕</span> This page has lost the dashboard</strong>
      Figures are as of {{ since }}; it connects again by itself. If it does not, look whether
      <code>inventory-migration dashboard</code> still runs.
    </div>`,
  props: { beat: Number, title: String, address: String },
  data() { return { lost: false, since: "", heard: Date.now() }; },
  watch: {
    beat() { this.hear(); },
    title: { immediate: true, handler(title) { if (title) document.title = title; } },
    address: {
      immediate: true,
      handler(address) { if (address) history.replaceState(history.state, "", address); },
    },
  },
  mounted() {
    this.timer = setInterval(() => this.listen(), 1000);
    // A page that nobody looks at is slowed down by the browser, which is not a loss.
    document.addEventListener("visibilitychange", this.hear);
  },
  unmounted() {
    clearInterval(this.timer);
    document.removeEventListener("visibilitychange", this.hear);
  },
  methods: {
    hear() {
      this.heard = Date.now();
      this.say(false);
    },
    listen() {
      if (document.hidden || Date.now() - this.heard < SILENT_AFTER) return;
      this.since = new Date(this.heard).toLocaleTimeString("en-GB");
      this.say(true);
    },
    say(lost) {
      this.lost = lost;
      document.documentElement.classList.toggle("lost-sight", lost);
    },
  },
};
