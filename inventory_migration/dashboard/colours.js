// Light, dark, or as the system has it: chosen here, kept in this browser, applied before the first
// paint by the script in the page's head (theme.py).

export default {
  template: `
    <label class="colours"><span class="unseen">Colours</span>
      <select class="button small" v-model="chosen" @change="choose" data-testid="colours">
        <option value="system">As the system</option>
        <option value="light">Light</option>
        <option value="dark">Dark</option>
      </select>
    </label>`,
  data() { return { chosen: window.colours.chosen() }; },
  methods: { choose() { window.colours.choose(this.chosen); } },
};
