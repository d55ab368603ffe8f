// The service {{name}}. A request is a `fetch` event, as in a service worker.

addEventListener("fetch", (event) => event.respondWith(handle(event.request)));

function handle(request) {
  const { pathname } = new URL(request.url);
  if (pathname === "/") {
    return new Response("Hello from {{name}}!\n");
  }
  const greeted = pathname.match(/^\/greet\/([^/]+)$/);
  if (greeted) {
    return new Response(`Hello, ${decodeURIComponent(greeted[1])}!\n`);
  }
  return new Response("not found\n", { status: 404 });
}
