"use strict";
// Shows the stock as it changes. Without it the page is whole, and as old as it is.
(() => {
  const shown = document.querySelector("[data-live]");
  if (!shown) return;
  const button = document.querySelector("form.order button");
  const address = new URL(shown.dataset.live, location.href);
  address.protocol = location.protocol === "https:" ? "wss:" : "ws:";
  const REFUSED = 1008;
  let pause = 1000; // milliseconds

  function open() {
    const socket = new WebSocket(address);
    socket.onmessage = (event) => show(JSON.parse(event.data));
    socket.onclose = (event) => {
      shown.classList.remove("live");
      if (event.code === REFUSED) return;
      setTimeout(open, pause * (1 + Math.random()));
      pause = Math.min(2 * pause, 60000);
    };
  }

  function show({ left, words, kind }) {
    pause = 1000;
    shown.className = `stock live ${kind}`;
    if (shown.textContent !== words) shown.textContent = words;
    if (button) button.disabled = left === 0;
  }

  open();
})();
