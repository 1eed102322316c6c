// Charts on uPlot: 11 px labels at every width, values on hover, linear or logarithmic axis,
// smoothing, gaps where nothing was measured, a band around a curve, CSV and PNG to save.
'use strict';

(() => {
  const FONT = '11px system-ui, sans-serif';
  const DASHES = [[], [6, 3], [2, 3], [8, 3, 2, 3]];
  const HEIGHT = 240;
  const dark = matchMedia('(prefers-color-scheme: dark)');
  const colour = name => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();

  function short(value) {
    if (value === null || value === undefined) return '–';
    const size = Math.abs(value);
    for (const [limit, suffix] of [[1e9, 'G'], [1e6, 'M'], [1e3, 'k']]) {
      if (size >= limit) return `${+(value / limit).toPrecision(4)}${suffix}`;
    }
    return String(+value.toPrecision(4));
  }

  // A point with a gap on both sides has no line: it is drawn as a point.
  function alone(plot, index, shown) {
    if (shown) return null;
    const values = plot.data[index];
    const measured = values.map((_, at) => at).filter(at => values[at] !== undefined);
    return measured.filter((at, place) => values[at] !== null
      && (values[measured[place - 1]] ?? null) === null && (values[measured[place + 1]] ?? null) === null);
  }

  // Exponential mean that skips gaps and starts without a bias towards zero.
  function smooth(values, weight) {
    if (!weight) return values;
    let mean = 0, sum = 0;
    return values.map(value => {
      if (value === null) return null;
      mean = weight * mean + (1 - weight) * value;
      sum = weight * sum + (1 - weight);
      return mean / sum;
    });
  }

  class Chart {
    constructor(figure) {
      this.figure = figure;
      this.place = figure.querySelector('.plot');
      this.data = JSON.parse(figure.dataset.chart);
      this.log = this.data.log;
      this.weight = 0;
      this.controls();
      this.draw();
      let width = this.place.clientWidth;
      this.watch = new ResizeObserver(() => {
        if (Math.abs(this.place.clientWidth - width) < 1) return;
        width = this.place.clientWidth;
        this.plot?.setSize({width, height: HEIGHT});
      });
      this.watch.observe(this.place);
      const every = Number(figure.dataset.refresh || 0);
      if (figure.dataset.source && every) this.timer = setInterval(() => this.refresh(), every * 1000);
    }

    controls() {
      const bar = document.createElement('div');
      bar.className = 'tools';
      const picks = (label, choices, chosen, act) => {
        const holder = document.createElement('label');
        holder.append(`${label} `);
        const select = document.createElement('select');
        for (const [value, text] of choices) select.add(new Option(text, value, false, value === chosen));
        select.addEventListener('change', () => { act(select.value); this.draw(); });
        holder.append(select);
        bar.append(holder);
      };
      picks('Axis', [['linear', 'linear'], ['log', 'log']], this.log ? 'log' : 'linear',
        value => { this.log = value === 'log'; });
      picks('Smoothing', [['0', 'off'], ['0.6', 'light'], ['0.9', 'strong']], '0',
        value => { this.weight = Number(value); });
      for (const [label, act] of [['CSV', () => this.csv()], ['PNG', () => this.png()]]) {
        const button = document.createElement('button');
        button.type = 'button';
        button.className = 'quiet';
        button.textContent = label;
        button.setAttribute('aria-label', `Download ${this.data.title} as ${label}`);
        button.addEventListener('click', act);
        bar.append(button);
      }
      this.figure.append(bar);
    }

    // Curves may have been measured at different x: joined, an x of another curve leaves no gap.
    columns() {
      const shown = value => (value === null || value === undefined || (this.log && value <= 0) ? null : value);
      const tables = this.data.curves.map(curve => [curve.x, smooth(curve.y.map(shown), this.weight)]);
      for (const curve of this.data.curves) {
        if (curve.low.length) tables.push([curve.x, curve.high.map(shown), curve.low.map(shown)]);
      }
      return uPlot.join(tables);
    }

    draw() {
      this.plot?.destroy();
      this.plot = null;
      this.place.replaceChildren();
      if (!this.data.curves.some(curve => curve.x.length)) {
        const words = document.createElement('p');
        words.className = 'soft';
        words.textContent = 'Nothing measured yet.';
        this.place.append(words);
        return;
      }
      const ink = colour('soft'), line = colour('line'), unit = this.data.unit;
      const axis = {stroke: ink, font: FONT, labelFont: FONT, grid: {stroke: line, width: 1}, ticks: {stroke: line}};
      const series = [{label: this.data.x_label, value: (_, x) => (x === null ? '–' : this.data.time ? new Date(x * 1000).toLocaleString() : short(x))}];
      this.data.curves.forEach((curve, index) => series.push({
        label: curve.name, stroke: colour(`curve-${index % 8}`), width: 2, dash: DASHES[index % 4],
        spanGaps: false, points: {size: 6, filter: alone}, value: (_, y) => (y === null || y === undefined ? '–' : `${short(y)}${unit}`),
      }));
      const bands = [];
      this.data.curves.forEach((curve, index) => {
        if (!curve.low.length) return;
        const stroke = colour(`curve-${index % 8}`);
        bands.push({series: [series.length, series.length + 1], fill: `${stroke}33`});
        for (const edge of ['high', 'low']) series.push({label: `${curve.name} ${edge}`, stroke: 'transparent', points: {show: false}, class: 'edge'});
      });
      this.plot = new uPlot({
        width: this.place.clientWidth || 320, height: HEIGHT, series, bands,
        scales: {x: {time: this.data.time}, y: {distr: this.log ? 3 : 1}},
        axes: [
          {...axis, label: this.data.time ? undefined : this.data.x_label, labelSize: 16, size: 28},
          {...axis, size: 60, values: (_, ticks) => ticks.map(tick => (tick === null ? '' : short(tick)))},
        ],
        cursor: {drag: {x: true, y: false}, points: {size: 7}},
        legend: {live: true},
      }, this.columns(), this.place);
    }

    async refresh() {
      if (!this.figure.isConnected) { clearInterval(this.timer); this.watch.disconnect(); return; }
      if (document.hidden) return;
      try {
        const answer = await fetch(this.figure.dataset.source, {headers: {accept: 'application/json'}});
        if (!answer.ok) return;
        const names = chart => chart.curves.map(curve => curve.name).join('\n');
        const before = names(this.data);
        this.data = await answer.json();
        if (this.plot && names(this.data) === before) this.plot.setData(this.columns());
        else this.draw();
      } catch { /* the next time */ }
    }

    csv() {
      const quote = text => `"${String(text).replaceAll('"', '""')}"`;
      const rows = [[this.data.x_label, ...this.data.curves.map(curve => curve.name)].map(quote)];
      const [xs, ...columns] = uPlot.join(this.data.curves.map(curve => [curve.x, curve.y]));
      xs.forEach((x, at) => rows.push([x, ...columns.map(column => column[at] ?? '')]));
      this.save(new Blob([rows.map(row => row.join(',')).join('\n') + '\n'], {type: 'text/csv'}), 'csv');
    }

    png() {
      const drawn = this.plot?.ctx.canvas;
      if (!drawn) return;
      const copy = document.createElement('canvas');
      copy.width = drawn.width;
      copy.height = drawn.height;
      const ink = copy.getContext('2d');
      ink.fillStyle = colour('paper');
      ink.fillRect(0, 0, copy.width, copy.height);
      ink.drawImage(drawn, 0, 0);
      copy.toBlob(blob => this.save(blob, 'png'));
    }

    save(blob, kind) {
      const link = document.createElement('a');
      link.href = URL.createObjectURL(blob);
      link.download = `${this.data.title.toLowerCase().replace(/[^a-z0-9]+/g, '-')}.${kind}`;
      link.click();
      setTimeout(() => URL.revokeObjectURL(link.href), 10000);
    }
  }

  const drawn = new WeakMap();
  const mount = () => {
    for (const figure of document.querySelectorAll('figure[data-chart]')) {
      if (!drawn.has(figure)) drawn.set(figure, new Chart(figure));
    }
  };
  document.addEventListener('htmx:after:swap', mount);
  dark.addEventListener('change', () => {
    for (const figure of document.querySelectorAll('figure[data-chart]')) drawn.get(figure)?.draw();
  });
  if (document.readyState === 'loading') document.addEventListener('DOMContentLoaded', mount);
  else mount();
})();
