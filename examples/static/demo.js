// The demo page. Each part is one function that fills one <section>; a page without the section skips the part.

const section = id => document.getElementById(id);
const getJson = async url => (await fetch(url, { cache: "no-store" })).json();
const megabytes = bytes => `${(bytes / 2 ** 20).toFixed(1)} MB`;

const sha256 = async bytes =>
  [...new Uint8Array(await crypto.subtle.digest("SHA-256", bytes))].map(b => b.toString(16).padStart(2, "0")).join("");

function say(root, text, mood = "") {
  const output = root.querySelector("output");
  output.textContent = text;
  output.className = mood;
}

/** Runs an action while its button is disabled, and shows its error. */
function onClick(root, button, action) {
  button.addEventListener("click", async () => {
    button.disabled = true;
    try {
      await action();
    } catch (error) {
      say(root, String(error), "bad");
    } finally {
      button.disabled = false;
    }
  });
}

async function facts(root) {
  const found = await getJson("/api/facts");
  const [page] = performance.getEntriesByType("navigation");
  const rows = { ...found, "browser speaks": page?.nextHopProtocol };
  root.querySelector("dl").replaceChildren(
    ...Object.entries(rows)
      .filter(([, value]) => value)
      .flatMap(([name, value]) => {
        const term = document.createElement("dt");
        const description = document.createElement("dd");
        term.textContent = name;
        description.textContent = value;
        return [term, description];
      }),
  );
}

function balance(root) {
  onClick(root, root.querySelector("button"), async () => {
    const started = performance.now();
    const answers = await Promise.all(Array.from({ length: 60 }, () => getJson("/api/facts")));
    const took = performance.now() - started;
    const workers = new Map();
    for (const { worker } of answers) workers.set(worker, (workers.get(worker) ?? 0) + 1);
    root.querySelector(".bars").replaceChildren(
      ...[...workers].sort(([a], [b]) => a - b).map(([worker, count]) => {
        const bar = document.createElement("li");
        bar.style.setProperty("--share", count / answers.length);
        bar.textContent = `worker ${worker}: ${count}`;
        return bar;
      }),
    );
    say(root, `${answers.length} answers in ${took.toFixed(0)} ms`, "good");
  });
}

function slow(root) {
  onClick(root, root.querySelector("button"), async () => {
    const dots = root.querySelector(".dots");
    dots.replaceChildren();
    let running = true;
    const slowOne = getJson("/api/slow").finally(() => (running = false));
    let slowest = 0;
    while (running) {
      const started = performance.now();
      await getJson("/api/facts");
      const took = performance.now() - started;
      slowest = Math.max(slowest, took);
      const dot = document.createElement("i");
      dot.className = took > 1000 ? "late" : "";
      dot.title = `${took.toFixed(0)} ms`;
      dots.append(dot);
      say(root, `the slowest of the fast ones: ${slowest.toFixed(0)} ms`, slowest > 1000 ? "bad" : "good");
      await new Promise(resolve => setTimeout(resolve, 50));
    }
    await slowOne;
  });
}

function upload(root) {
  const progress = root.querySelector("progress");

  const send = body =>
    new Promise((resolve, reject) => {
      const request = new XMLHttpRequest(); // fetch() cannot report the progress of an upload
      request.upload.onprogress = event => (progress.value = event.loaded / event.total);
      request.onload = () => {
        if (request.status === 200) resolve(JSON.parse(request.responseText));
        else reject(new Error(`${request.status} ${request.statusText}`));
      };
      request.onerror = () => reject(new Error("the connection was lost"));
      request.open("POST", "/api/upload");
      request.send(body);
    });

  const compare = async bytes => {
    say(root, `sending ${megabytes(bytes.byteLength)} …`);
    const [answer, checksum] = await Promise.all([send(bytes), sha256(bytes)]);
    const same = answer.sha256 === checksum;
    say(root, `worker ${answer.worker} read ${megabytes(answer.bytes)}; checksums ${same ? "equal" : "differ"}: ${answer.sha256.slice(0, 16)}…`, same ? "good" : "bad");
  };

  root.querySelector("input").addEventListener("change", async event => {
    const [file] = event.target.files;
    if (!file) return;
    try {
      await compare(await file.arrayBuffer());
    } catch (error) {
      say(root, String(error), "bad");
    }
    event.target.value = "";
  });

  onClick(root, root.querySelector("button"), async () => {
    const noise = new Uint8Array(20 * 2 ** 20);
    for (let start = 0; start < noise.length; start += 65536) crypto.getRandomValues(noise.subarray(start, start + 65536));
    await compare(noise);
  });
}

function download(root) {
  const progress = root.querySelector("progress");
  onClick(root, root.querySelector("button"), async () => {
    const started = performance.now();
    const response = await fetch("/api/download?megabytes=50", { cache: "no-store" });
    const total = Number(response.headers.get("content-length"));
    let received = 0;
    for (const reader = response.body.getReader(); ; ) {
      const { done, value } = await reader.read();
      if (done) break;
      received += value.length;
      progress.value = received / total;
    }
    const seconds = (performance.now() - started) / 1000;
    say(root, `${megabytes(received)} in ${seconds.toFixed(2)} s, ${megabytes(received / seconds)}/s`, received === total ? "good" : "bad");
  });
}

function clock(root) {
  const source = new EventSource("/api/clock");
  source.onmessage = event => {
    const { time, worker } = JSON.parse(event.data);
    root.querySelector("time").textContent = time;
    say(root, `from worker ${worker}`);
  };
}

function chat(root) {
  const lines = root.querySelector("ol");
  const show = (text, className = "") => {
    const line = document.createElement("li");
    line.textContent = text;
    line.className = className;
    lines.append(line);
    lines.scrollTop = lines.scrollHeight;
  };
  let socket;
  const connect = () => {
    socket = new WebSocket(`${location.origin.replace("http", "ws")}/api/chat`);
    socket.onmessage = ({ data }) => {
      const message = JSON.parse(data);
      if (message.event === "said") show(message.text);
      else show(`someone ${message.event}; ${message.members} in the room of worker ${message.worker}`, "quiet");
    };
    socket.onclose = () => {
      show("connection closed, trying again", "quiet");
      setTimeout(connect, 1000);
    };
  };
  connect();
  root.querySelector("form").addEventListener("submit", event => {
    event.preventDefault();
    const input = event.target.elements.text;
    if (input.value && socket.readyState === WebSocket.OPEN) {
      socket.send(input.value);
      input.value = "";
    }
  });
}

for (const [id, start] of Object.entries({ facts, balance, slow, upload, download, clock, chat })) {
  const root = section(id);
  if (root) start(root);
}
