"use strict";
// The status page. It asks for /v1/status and /readyz again and again and shows what they say. Whatever comes from the
// service is put in as text, never as HTML; rows are kept while their subject is there, so that focus stays.

(() => {
  const POLL_MS = 2000;
  const SLOWEST_POLL_MS = 16000;
  // What nobody looks at need not be new.
  const HIDDEN_POLL_MS = 10000;
  const TIMEOUT_MS = 8000;
  const RATE_SECONDS = 10;
  const FILL_SECONDS = 60;
  const HISTORY = 150;
  const PARTITIONS_SHOWN = 20;
  const LETTERS_SHOWN = 10;
  const PAYLOAD_SHOWN = 16384;
  const TOKEN_KEY = "ingestd-token";

  const by = (id) => document.getElementById(id);
  const put = (node, text) => { if (node.textContent !== text) node.textContent = text; };
  const mark = (node, name, value) => { if (node.dataset[name] !== value) node.dataset[name] = value; };

  function make(tag, className, text) {
    const node = document.createElement(tag);
    if (className) node.className = className;
    if (text !== undefined) node.textContent = text;
    return node;
  }

  // Rows of a list, one an item: made once, moved and updated afterwards.
  const rowsOf = new WeakMap();
  function list(parent, items, key, makeRow, update) {
    const old = rowsOf.get(parent) ?? new Map();
    const now = new Map();
    let place = parent.firstElementChild;
    for (const item of items) {
      const name = key(item);
      const row = old.get(name) ?? makeRow(item);
      update(row, item);
      now.set(name, row);
      if (row.node === place) place = place.nextElementSibling;
      else parent.insertBefore(row.node, place);
    }
    for (const [name, row] of old) if (!now.has(name)) row.node.remove();
    rowsOf.set(parent, now);
  }

  // MARK: Numbers as text

  const whole = new Intl.NumberFormat("en");
  const short = new Intl.NumberFormat("en", { notation: "compact", maximumSignificantDigits: 3 });
  const tenth = new Intl.NumberFormat("en", { maximumFractionDigits: 1 });
  const count = (value) => (value < 10000 ? whole.format(value) : short.format(value));
  const rate = (value) => (value === null ? "–" : value < 100 ? tenth.format(value) : count(Math.round(value)));

  function bytes(value) {
    const units = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
    let unit = 0;
    while (value >= 1024 && unit < units.length - 1) { value /= 1024; unit += 1; }
    return `${unit === 0 || value >= 100 ? Math.round(value) : value.toFixed(1)} ${units[unit]}`;
  }

  function duration(seconds) {
    if (seconds < 10) return `${seconds.toFixed(1)} s`;
    if (seconds < 120) return `${Math.round(seconds)} s`;
    const minutes = Math.round(seconds / 60);
    if (minutes < 120) return `${minutes} min`;
    const hours = Math.floor(minutes / 60);
    if (hours < 48) return `${hours} h ${minutes % 60} min`;
    return `${Math.floor(hours / 24)} d ${hours % 24} h`;
  }

  const clock = (milliseconds) => new Date(milliseconds).toLocaleTimeString("en-GB");

  // MARK: Asking

  // Only this tab keeps it; a browser that forbids storage keeps it until the page is loaded again.
  const token = {
    value: null,
    get() {
      try { return this.value ?? sessionStorage.getItem(TOKEN_KEY); } catch { return this.value; }
    },
    set(value) {
      this.value = value;
      try {
        if (value === null) sessionStorage.removeItem(TOKEN_KEY);
        else sessionStorage.setItem(TOKEN_KEY, value);
      } catch { /* kept in `value` */ }
    },
  };

  // An answer that says no. `needsToken` is whether another token may help.
  class Refusal extends Error {
    constructor(status, detail) {
      super(detail);
      this.needsToken = status === 401 || status === 403;
    }
  }

  // No answer, or half of one.
  class Silence extends Error {}

  // Addresses are relative: the page works behind a proxy that puts it below a path.
  async function ask(method, path, accepts = []) {
    const headers = { Accept: "application/json" };
    const secret = token.get();
    if (secret !== null) headers.Authorization = `Bearer ${secret}`;
    let response, text;
    try {
      response = await fetch(path, {
        method, headers, cache: "no-store", redirect: "error", signal: AbortSignal.timeout(TIMEOUT_MS),
      });
      text = await response.text();
    } catch (error) {
      throw new Silence(String(error));
    }
    if (response.ok || accepts.includes(response.status)) {
      try { return JSON.parse(text); } catch { throw new Silence("no JSON"); }
    }
    let detail = `The service answered ${response.status}.`;
    try { detail = JSON.parse(text).detail ?? detail; } catch { /* no problem document: a proxy's page */ }
    throw new Refusal(response.status, String(detail));
  }

  // MARK: What was seen

  let samples = [];
  const seen = { journals: new Set(), journal: null, several: false };
  let lastStatus = null;

  function take(status) {
    const last = samples.at(-1);
    const isOther = seen.journal !== null && seen.journal !== status.journal.id;
    if (isOther || (last && status.uptime_seconds < last.time)) samples = [];
    if (isOther && seen.journals.has(status.journal.id)) seen.several = true;
    seen.journal = status.journal.id;
    seen.journals.add(status.journal.id);
    const sample = {
      time: status.uptime_seconds, in: 0, http: 0, kafka: 0, rejected: 0, out: 0, backlog: 0,
      stored: status.journal.stored_bytes, streams: new Map(),
    };
    for (const stream of status.streams) {
      sample.out += stream.inserted_events;
      sample.backlog += stream.pending_events;
      sample.streams.set(stream.stream, { in: 0, out: stream.inserted_events });
    }
    for (const source of status.sources) {
      sample.in += source.accepted_events;
      sample[source.source] += source.accepted_events;
      sample.rejected += source.rejected_events;
      const stream = sample.streams.get(source.stream);
      if (stream) stream.in += source.accepted_events;
    }
    // Two answers of the same moment have no rate.
    if (samples.length > 0 && sample.time <= samples.at(-1).time) samples.pop();
    samples.push(sample);
    if (samples.length > HISTORY + 1) samples.shift();
    return sample;
  }

  // Change of a value a second over the last `seconds`; null while there is nothing to compare.
  function slope(value, seconds, least = 0.5) {
    const last = samples.at(-1);
    const first = samples.find((sample) => sample.time >= last.time - seconds - 1);
    const time = last.time - first.time;
    const [before, after] = [value(first), value(last)];
    return time < least || before === undefined || after === undefined ? null : (after - before) / time;
  }
  const rateOf = (value) => { const change = slope(value, RATE_SECONDS); return change === null ? null : Math.max(0, change); };

  // MARK: The picture

  function spark(svg, values) {
    if (!svg.firstChild) {
      svg.setAttribute("viewBox", `0 0 ${HISTORY - 1} 32`);
      for (const name of ["area", "line"]) {
        const path = document.createElementNS("http://www.w3.org/2000/svg", "path");
        path.setAttribute("class", name);
        svg.append(path);
      }
    }
    const shown = values.slice(-HISTORY);
    const start = HISTORY - shown.length;
    const top = Math.max(1e-9, ...shown);
    const points = shown.map((value, index) => `${start + index} ${(31 - (value / top) * 29).toFixed(1)}`);
    const line = points.length > 1 ? `M${points.join("L")}` : "";
    svg.firstChild.setAttribute("d", line && `${line}V32H${start}Z`);
    svg.lastChild.setAttribute("d", line);
  }

  const differences = (value) => samples.slice(1).map((sample, index) =>
    Math.max(0, (value(sample) - value(samples[index])) / (sample.time - samples[index].time)));

  function fillText(status) {
    const { refusing, stored_bytes: stored, max_bytes: most, disk_free_bytes: free } = status.journal;
    if (refusing !== undefined) return "takes nothing now";
    const growth = slope((sample) => sample.stored, FILL_SECONDS, 4);
    if (growth === null) return "–";
    const room = Math.max(0, most - stored);
    const seconds = Math.min(room, free ?? room) / growth;
    if (growth <= 0 || seconds > 30 * 86400) return "not filling";
    return `${duration(seconds)} at this rate`;
  }

  function showFlow(status, sample) {
    const rates = { in: rateOf((s) => s.in), out: rateOf((s) => s.out) };
    put(by("in-rate"), rate(rates.in));
    put(by("http-rate"), `${rate(rateOf((s) => s.http))} /s`);
    put(by("kafka-rate"), status.kafka.enabled ? `${rate(rateOf((s) => s.kafka))} /s` : "off");
    put(by("accepted-total"), count(sample.in));
    put(by("rejected-total"), count(sample.rejected));
    put(by("backlog"), count(sample.backlog));
    by("backlog").title = whole.format(sample.backlog);
    const ages = status.streams.map((stream) => stream.oldest_event_age_seconds).filter((age) => age !== null);
    put(by("oldest"), ages.length ? duration(Math.max(...ages)) : "none waits");
    const share = Math.min(100, (100 * sample.stored) / status.journal.max_bytes);
    const shareText = `${share > 0 && share < 0.1 ? "under 0.1" : tenth.format(share)} %`;
    by("fill-bar").style.width = `${share > 0 ? Math.max(0.5, share) : 0}%`;
    mark(by("fill"), "level", share >= 90 ? "bad" : share >= 70 ? "warn" : "good");
    by("fill").setAttribute("aria-valuenow", share.toFixed(1));
    by("fill").setAttribute("aria-valuetext", shareText);
    put(by("fill-text"), `${bytes(sample.stored)} of ${bytes(status.journal.max_bytes)} (${shareText})`);
    put(by("time-to-full"), fillText(status));
    put(by("disk-free"), status.journal.disk_free_bytes === null ? "not known" : bytes(status.journal.disk_free_bytes));
    put(by("out-rate"), rate(rates.out));
    put(by("clickhouse-state"), status.clickhouse.healthy ? "takes events" : "does not take events");
    by("clickhouse-state").title = status.clickhouse.detail;
    const flying = status.streams.reduce((sum, stream) => sum + (stream.inserts_in_flight ?? 0), 0);
    put(by("in-flight"), flying === 1 ? "1 insert" : `${count(flying)} inserts`);
    put(by("inserted-total"), count(sample.out));
    put(by("letters-stored"), count(status.dead_letters.stored));
    const isBlocked = sample.backlog > 0 &&
      (!status.clickhouse.healthy || status.streams.some((stream) => stream.state === "held"));
    mark(by("in-arrow"), "flows", status.journal.refusing !== undefined ? "no" : rates.in > 0 ? "yes" : "idle");
    mark(by("out-arrow"), "flows", rates.out > 0 ? "yes" : isBlocked ? "no" : "idle");
    spark(by("in-spark"), differences((s) => s.in));
    spark(by("backlog-spark"), samples.map((s) => s.backlog));
    spark(by("out-spark"), differences((s) => s.out));
  }

  // MARK: Streams

  function tag(level, text) {
    const node = make("span", "tag");
    node.append(make("span", "dot"), make("span"));
    setTag(node, level, text);
    return node;
  }

  function setTag(node, level, text) {
    mark(node, "level", level);
    put(node.lastChild, text);
  }

  function cell(row, className, label) {
    const node = make("td", className);
    node.setAttribute("role", "cell");
    if (label) node.dataset.label = label;
    row.append(node);
    return node;
  }

  function retryButton(stream) {
    const button = make("button", "", "Retry now");
    button.type = "button";
    button.setAttribute("aria-label", `Retry stream ${stream} now`);
    button.addEventListener("click", () => act(button, async () => {
      await ask("POST", `v1/streams/${encodeURIComponent(stream)}/retry`);
      say(`Stream ${stream} is tried again.`);
    }));
    return button;
  }

  const streamLevel = { running: "good", retrying: "warn", held: "bad", stopped: "off" };

  function showStreams(status) {
    list(by("stream-rows"), status.streams, (stream) => stream.stream, (stream) => {
      const node = make("tr");
      node.setAttribute("role", "row");
      const row = { node };
      const name = cell(node);
      name.append(make("span", "", stream.stream));
      row.reason = make("span", "reason");
      name.append(row.reason);
      row.state = tag("off", "");
      cell(node).append(row.state);
      row.waiting = cell(node, "n", "Waiting");
      row.oldest = cell(node, "n", "Oldest");
      row.in = cell(node, "n", "In/s");
      row.out = cell(node, "n", "Out/s");
      row.letters = cell(node, "n", "Dead letters");
      row.action = cell(node);
      row.button = retryButton(stream.stream);
      return row;
    }, (row, stream) => {
      const level = streamLevel[stream.state] ?? "warn";
      mark(row.node, "level", level);
      setTag(row.state, level, stream.state);
      put(row.reason, stream.reason ?? "");
      put(row.waiting, count(stream.pending_events));
      put(row.oldest, stream.oldest_event_age_seconds === null ? "–" : duration(stream.oldest_event_age_seconds));
      put(row.in, rate(rateOf((sample) => sample.streams.get(stream.stream)?.in)));
      put(row.out, rate(rateOf((sample) => sample.streams.get(stream.stream)?.out)));
      put(row.letters, count(stream.dead_letters));
      const canRetry = stream.state === "held" || stream.state === "retrying";
      if (canRetry && !row.button.isConnected) row.action.append(row.button);
      if (!canRetry && row.button.isConnected) row.button.remove();
      row.button.className = stream.state === "held" ? "" : "quiet";
    });
  }

  // MARK: Kafka, components

  function showPartitions(status) {
    const { enabled, partitions, detail } = status.kafka;
    by("partitions").hidden = partitions.length === 0;
    const lagOf = (partition) => partition.lag ?? -1;
    const sorted = [...partitions].sort((one, other) => lagOf(other) - lagOf(one)
      || one.topic.localeCompare(other.topic) || one.partition - other.partition);
    const lag = (some) => some.reduce((sum, partition) => sum + (partition.lag ?? 0), 0);
    const known = partitions.some((partition) => partition.lag !== undefined);
    put(by("partitions-note"), !enabled ? "The consumer is off." : partitions.length === 0
      ? `No partition is assigned: ${detail}.`
      : `${partitions.length === 1 ? "1 partition" : `${count(partitions.length)} partitions`}, ` +
        (known ? `lag ${count(lag(partitions))} together.` : "their lag is not known yet."));
    list(by("partition-rows"), sorted.slice(0, PARTITIONS_SHOWN), (one) => `${one.topic}/${one.partition}`, (one) => {
      const node = make("tr");
      node.setAttribute("role", "row");
      const row = { node };
      cell(node).textContent = `${one.topic}/${one.partition}`;
      row.lag = cell(node, "n", "Lag");
      row.uncommitted = cell(node, "n", "Uncommitted");
      row.state = tag("off", "");
      cell(node).append(row.state);
      return row;
    }, (row, one) => {
      put(row.lag, one.lag === undefined ? "–" : count(one.lag));
      put(row.uncommitted, count(one.uncommitted));
      setTag(row.state, one.paused ? "warn" : "good", one.paused ? "paused" : "reading");
    });
    const rest = sorted.slice(PARTITIONS_SHOWN);
    by("partitions-more").hidden = rest.length === 0;
    put(by("partitions-more"), `and ${count(rest.length)} more, with a lag of ${count(lag(rest))} together`);
  }

  function showComponents(components) {
    list(by("component-rows"), components, (component) => component.component, (component) => {
      const node = make("li");
      const row = { node, tag: tag("off", ""), detail: make("span", "note") };
      node.append(row.tag, row.detail);
      return row;
    }, (row, component) => {
      setTag(row.tag, component.healthy ? "good" : component.required ? "bad" : "warn", component.component);
      put(row.detail, component.healthy ? component.detail : `not well: ${component.detail}`);
    });
  }

  // MARK: Verdict

  const componentTitle = {
    journal: "New events are refused.",
    dead_letters: "The store of dead letters is full.",
    clickhouse: "ClickHouse does not take events; they wait in the journal.",
    kafka: "Kafka can't be read.",
    service: "The service is shutting down.",
    http: "The service is shutting down.",
  };

  function troublesOf(status, components) {
    const troubles = [];
    for (const stream of status.streams) {
      if (stream.state !== "held") continue;
      troubles.push({ level: "bad", title: `Stream ${stream.stream} is held.`, text: stream.reason, stream: stream.stream });
    }
    let isClickHouseIll = false;
    for (const { component, healthy, required, detail } of components) {
      if (healthy || component.startsWith("stream ")) continue;
      isClickHouseIll ||= component === "clickhouse";
      const title = componentTitle[component] ?? `${component} is not well.`;
      if (troubles.some((trouble) => trouble.title === title)) continue;
      troubles.push({ level: required || component === "dead_letters" ? "bad" : "warn", title, text: detail });
    }
    for (const stream of status.streams) {
      // One reason for all is told once.
      if (stream.state !== "retrying" || isClickHouseIll) continue;
      troubles.push({ level: "warn", title: `Stream ${stream.stream} tries again.`, text: stream.reason });
    }
    if (seen.several) {
      troubles.push({ level: "warn", title: "Several instances answer here in turn.",
        text: "Rates can't be told: open one instance by its own address." });
    }
    return troubles.sort((one, other) => (one.level === other.level ? 0 : one.level === "bad" ? -1 : 1));
  }

  function showVerdict(level, text, troubles) {
    mark(by("verdict"), "level", level);
    put(by("verdict-text"), text);
    list(by("troubles"), troubles, (trouble) => trouble.title, (trouble) => {
      const node = make("li");
      const row = { node, title: make("b", "", trouble.title), text: make("span") };
      node.append(row.title, " ", row.text);
      return row;
    }, (row, trouble) => put(row.text, trouble.text ?? ""));
    const host = lastStatus?.host;
    document.title = `${level === "bad" ? "(!) " : ""}${host ? `${host} · ` : ""}ingestd`;
  }

  // MARK: Dead letters

  const letters = { key: null, at: 0, isAsking: false };

  // The list is asked for when the counts say that it has changed, and now and then.
  async function refreshLetters(status, isForced = false) {
    const total = status.streams.reduce((sum, stream) => sum + stream.dead_letters, 0);
    const key = [status.journal.id, status.dead_letters.stored, status.dead_letters.awaiting_forwarding, total].join();
    if (letters.isAsking || (!isForced && key === letters.key && Date.now() - letters.at < 30000)) return;
    letters.isAsking = true;
    try {
      const page = status.dead_letters.stored === 0
        ? [] : (await ask("GET", `v1/dead-letters?order=newest&limit=${LETTERS_SHOWN}`)).dead_letters;
      letters.key = key;
      letters.at = Date.now();
      by("letters-token").hidden = true;
      showLetters(page, status);
    } catch (error) {
      if (!(error instanceof Refusal)) throw error;
      letters.key = key;
      letters.at = Date.now();
      by("letters-token").hidden = !error.needsToken;
      showLetters([], status, error.needsToken ? "What they are is told for a token only." : error.message);
    } finally {
      letters.isAsking = false;
    }
  }

  function showLetters(page, status, trouble) {
    const { stored, stored_bytes: size, awaiting_forwarding: waiting, store_full: isFull } = status.dead_letters;
    const parts = [stored === 0 ? "None." : `${count(stored)} stored, ${bytes(size)}.`];
    if (isFull) parts.push("The store is full.");
    if (waiting > 0) parts.push(`${count(waiting)} not in the dead-letter topic yet.`);
    if (trouble) parts.push(trouble);
    else if (stored > page.length) parts.push(`The newest ${page.length}:`);
    put(by("letters-note"), parts.join(" "));
    const hasFocus = by("letter-rows").contains(document.activeElement);
    list(by("letter-rows"), page, (letter) => letter.id, makeLetter, (row, letter) => {
      const age = (Date.parse(status.time) - Date.parse(letter.failed_at)) / 1000;
      put(row.age, `${letter.state === "retried" ? "sent again, " : ""}${duration(Math.max(0, age))} ago`);
    });
    // Whoever pressed a button of a letter that is gone goes on from the panel.
    if (hasFocus && !by("letter-rows").contains(document.activeElement)) by("letters").focus();
  }

  function origin(source) {
    return source.kind === "kafka" ? `${source.topic}/${source.partition} at ${source.offset}` : source.kind;
  }

  function makeLetter(letter) {
    const node = make("li");
    const row = { node, age: make("span", "note") };
    row.age.title = letter.failed_at;
    const head = make("p", "letter-head");
    head.append(make("b", "", letter.error.kind), make("span", "", `${letter.stream}, from ${origin(letter.source)}`), row.age);
    const message = make("p", "letter-message", letter.error.message);
    message.title = letter.error.message;
    const actions = make("p", "letter-actions");
    const name = `dead letter ${letter.id}`;
    const button = (text, className) => {
      const made = make("button", className, text);
      made.type = "button";
      made.setAttribute("aria-label", `${text}: ${name}`);
      actions.append(made);
      return made;
    };
    const show = button("Show payload", "quiet");
    const retry = button("Retry", "quiet");
    const discard = button("Discard", "quiet danger");
    let payload = null;
    show.setAttribute("aria-expanded", "false");
    show.addEventListener("click", () => act(show, async () => {
      if (payload) {
        payload.remove();
        payload = null;
      } else {
        const { payload: text = "", payload_encoding: encoding } = await ask("GET", `v1/dead-letters/${letter.id}`);
        const rest = text.length - PAYLOAD_SHOWN;
        payload = make("pre", "", (encoding === "base64" ? "(no text; in base64)\n" : "") + text.slice(0, PAYLOAD_SHOWN) +
          (rest > 0 ? `\n(and ${count(rest)} characters more)` : ""));
        payload.tabIndex = 0;
        payload.setAttribute("role", "region");
        payload.setAttribute("aria-label", `Payload of ${name}`);
        node.append(payload);
      }
      put(show, payload ? "Hide payload" : "Show payload");
      show.setAttribute("aria-label", `${show.textContent}: ${name}`);
      show.setAttribute("aria-expanded", String(payload !== null));
    }));
    retry.addEventListener("click", () => act(retry, async () => {
      await ask("POST", `v1/dead-letters/${letter.id}/retry`);
      say(`The event of dead letter ${letter.id} goes to ${letter.stream} again.`);
      letters.key = null;
    }));
    discard.addEventListener("click", async () => {
      if (!(await confirmed(`Dead letter ${letter.id} (event ${letter.event_id}) will be deleted. Nothing brings it back.`))) return;
      act(discard, async () => {
        await ask("DELETE", `v1/dead-letters/${letter.id}`);
        say(`Dead letter ${letter.id} is discarded.`);
        letters.key = null;
      });
    });
    node.append(head, message, make("p", "letter-id", letter.event_id), actions);
    return row;
  }

  // MARK: Doing things

  let toastTimer = 0;
  function say(text) {
    put(by("toast"), text);
    clearTimeout(toastTimer);
    toastTimer = setTimeout(() => put(by("toast"), ""), 6000);
  }

  // Runs what a button does; the numbers afterwards are asked for at once.
  async function act(button, work) {
    button.disabled = true;
    const hadFocus = document.activeElement === button;
    try {
      await work();
    } catch (error) {
      if (error instanceof Refusal && error.needsToken) askForToken(error.message);
      else if (error instanceof Refusal) say(error.message);
      else if (error instanceof Silence) say("The service did not answer. Perhaps it was done all the same.");
      else throw error;
    } finally {
      button.disabled = false;
      if (hadFocus && button.isConnected && !document.querySelector("dialog[open]")) button.focus();
      schedule(0);
    }
  }

  function confirmed(text) {
    const dialog = by("confirm");
    put(by("confirm-text"), text);
    dialog.returnValue = "cancel";
    dialog.showModal();
    return new Promise((resolve) => {
      dialog.addEventListener("close", () => resolve(dialog.returnValue === "yes"), { once: true });
    });
  }

  function askForToken(reason) {
    const dialog = by("token");
    if (dialog.open) return;
    put(by("token-reason"), reason);
    by("token-value").value = "";
    by("token-forget").hidden = token.get() === null;
    dialog.returnValue = "cancel";
    dialog.showModal();
    by("token-value").focus();
  }

  by("token").addEventListener("close", () => {
    const value = by("token-value").value.trim();
    by("token-value").value = "";
    if (by("token").returnValue !== "use" || value === "") return;
    // Other characters can't be in a header.
    if (!/^[\x21-\x7e]+$/.test(value)) return say("That is no token: it has characters that no token has.");
    token.set(value);
    isTokenRefused = false;
    letters.key = null;
    schedule(0);
  });
  by("token-forget").addEventListener("click", () => {
    token.set(null);
    by("token").close("cancel");
    letters.key = null;
    schedule(0);
  });
  const change = "A token with the right “operations” shows and does more.";
  by("token-open").addEventListener("click", () => askForToken(change));
  by("letters-token").addEventListener("click", () => askForToken(change));

  // MARK: Again and again

  let timer = 0;
  let failures = 0;
  let lastAnswer = Date.now();
  let isPolling = false;
  // Something was done while an answer was under way, which does not show it.
  let isWanted = false;
  // Asked once; after that only the button asks, so that nobody who has no token is pestered.
  let isTokenRefused = false;

  function schedule(delay) {
    clearTimeout(timer);
    timer = setTimeout(poll, delay);
  }

  function connection(state, text) {
    mark(document.body, "state", state);
    mark(by("connection"), "state", state);
    put(by("connection-text"), text);
  }

  function show(status, components) {
    lastStatus = status;
    const sample = take(status);
    put(by("host"), status.host);
    put(by("version"), `version ${status.version}`);
    put(by("uptime"), `up ${duration(status.uptime_seconds)}`);
    showFlow(status, sample);
    showStreams(status);
    showPartitions(status);
    showComponents(components);
    const troubles = troublesOf(status, components);
    if (troubles.length === 0) return showVerdict("good", "All is well", []);
    const others = troubles.length - 1;
    showVerdict(troubles[0].level, others === 0 ? "One thing needs a look" : `${troubles.length} things need a look`, troubles);
  }

  async function poll() {
    if (isPolling) {
      isWanted = true;
      return;
    }
    isPolling = true;
    let delay = document.hidden ? HIDDEN_POLL_MS : POLL_MS;
    try {
      // 503 is an answer too: not ready, and why.
      const [status, ready] = await Promise.all([ask("GET", "v1/status"), ask("GET", "readyz", [503])]);
      failures = 0;
      lastAnswer = Date.now();
      connection("live", "Live");
      by("token-open").hidden = token.get() === null;
      show(status, ready.components);
      await refreshLetters(status);
    } catch (error) {
      if (error instanceof Refusal && error.needsToken) {
        connection("token", "Needs a token");
        by("token-open").hidden = false;
        showVerdict("warn", "A token is needed to look", [{ title: "The service says:", text: error.message }]);
        delay = SLOWEST_POLL_MS;
        if (!isTokenRefused) askForToken(error.message);
        isTokenRefused = true;
      } else if (error instanceof Refusal || error instanceof Silence) {
        failures += 1;
        delay = Math.min(SLOWEST_POLL_MS, POLL_MS * 2 ** (failures - 1));
        const since = `Not connected since ${clock(lastAnswer)}`;
        connection("lost", since);
        const text = error instanceof Refusal ? error.message : "The service does not answer.";
        showVerdict("bad", since, [{ title: text,
          text: `Trying again every ${delay / 1000} s.${lastStatus ? " What is below is as of then." : ""}` }]);
      } else {
        throw error;
      }
    } finally {
      isPolling = false;
      schedule(isWanted ? 0 : delay);
      isWanted = false;
    }
  }

  document.addEventListener("visibilitychange", () => { if (!document.hidden) schedule(0); });
  window.addEventListener("online", () => schedule(0));
  by("letters").tabIndex = -1;
  poll();
})();
