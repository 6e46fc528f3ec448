// What the test of a real browser calls from outside.

window.sha256 = async bytes =>
  [...new Uint8Array(await crypto.subtle.digest("SHA-256", bytes))].map(b => b.toString(16).padStart(2, "0")).join("");

window.upload = async length => {
  const bytes = new Uint8Array(length).map((_, index) => index % 251);
  const response = await fetch("/upload", { method: "POST", body: bytes });
  return { answer: await response.json(), expected: await sha256(bytes) };
};

window.socket = words =>
  new Promise((resolve, reject) => {
    const socket = new WebSocket(`${location.origin.replace("http", "ws")}/echo`);
    const received = [];
    socket.onopen = () => words.forEach(word => socket.send(word));
    socket.onmessage = event => {
      received.push(event.data);
      if (received.length === words.length) socket.close(1000);
    };
    socket.onclose = event => resolve({ received, code: event.code, extensions: socket.extensions });
    socket.onerror = () => reject(new Error("WebSocket failed"));
  });

window.events = count =>
  new Promise((resolve, reject) => {
    const source = new EventSource("/ticks");
    const received = [];
    source.onmessage = event => {
      received.push(event.data);
      if (received.length === count) {
        source.close();
        resolve(received);
      }
    };
    source.onerror = () => reject(new Error("EventSource failed"));
  });
