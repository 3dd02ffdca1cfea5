// What is done in the browser: page titles, uploads and their previews, and a word when the dashboard itself is gone.
(function () {
    "use strict";
    const IMAGES_MAX = 20, BYTES_MAX = 100e6, ALIVE_MS = 5000, USED_MS = 10000;
    const none = () => window.dash_clientside.no_update;
    const previews = {};
    let arrived = false, drawn = "", usedAt = 0;

    function arrive(path) {
        const link = Array.from(document.querySelectorAll("nav a")).find((a) => a.getAttribute("href") === path);
        document.title = link ? `${link.textContent} · Pawqueue` : "Pawqueue";
        if (arrived) {
            document.getElementById("content").focus({preventScroll: true});
            window.scrollTo(0, 0);
        }
        arrived = true;
    }

    function take(contents, names) {
        if (!contents || !contents.length) {
            return [none(), none()];
        }
        const kept = contents.slice(0, IMAGES_MAX);
        if (kept.reduce((sum, text) => sum + text.length, 0) > BYTES_MAX * 4 / 3) {
            return [none(), "These are more than 100 MB together: send fewer at a time, or use pawqueue submit."];
        }
        const stamp = Date.now();
        const images = kept.map((text, at) => {
            const key = `${stamp}-${at}`;
            previews[key] = text;
            return {key: key, name: names[at], contents: text};
        });
        const left = contents.length - kept.length;
        return [images, left ? `${left} more were left out: at most ${IMAGES_MAX} at a time.` : ""];
    }

    function merge(added, told, entries) {
        const known = new Map((entries || []).map((entry) => [entry.key, entry]));
        for (const entry of told || []) {
            if (known.has(entry.key)) {
                known.set(entry.key, entry);
            }
        }
        const fresh = (added || []).filter((entry) => !known.has(entry.key));
        return [...fresh, ...known.values()];
    }

    function preview(_results, ids) {
        return ids.map((id) => previews[id.key] || "");
    }

    // Dash draws all tiles anew, and with them go the image under the pointer and the focus: while somebody points or
    // moves among them, or has one open, they stand still.
    function draw(found) {
        const gallery = document.getElementById("predictions-gallery");
        if (!gallery) {
            return [none(), none()];
        }
        const isSame = gallery.dataset.search === found.search && gallery.childElementCount > 0;
        if (isSame && JSON.stringify(found.tiles) === drawn) {
            return [none(), "held"];
        }
        if (isSame && isUsed(gallery)) {
            return [none(), "held is-held"];
        }
        keepFocus(gallery);
        gallery.dataset.search = found.search;
        drawn = JSON.stringify(found.tiles);
        return [found.tiles, "held"];
    }

    // A finger leaves no pointer behind, though browsers believe so; the focus may lie there long after.
    function isUsed(gallery) {
        const isPointedAt = window.matchMedia("(hover: hover)").matches && gallery.matches(":hover");
        return isPointedAt || Date.now() - usedAt < USED_MS || document.querySelector("[role=dialog]") !== null;
    }
    function noteUse(event) {
        if (event.target.closest && event.target.closest("#predictions-gallery")) {
            usedAt = Date.now();
        }
    }

    // The focus goes on to the same image, or to the gallery once that is no longer shown.
    function keepFocus(gallery) {
        const focused = gallery.querySelector(":focus");
        if (!focused) {
            return;
        }
        const href = focused.getAttribute("href"), focusVisible = focused.matches(":focus-visible");
        const observer = new MutationObserver(() => {
            if (focused.isConnected) {
                return;
            }
            observer.disconnect();
            const same = Array.from(gallery.querySelectorAll("a")).find((a) => a.getAttribute("href") === href);
            (same || gallery).focus({preventScroll: true, focusVisible: focusVisible});
        });
        observer.observe(gallery, {childList: true, subtree: true});
    }

    // Dash's upload has an input of its own, which it gives no name.
    function nameInput() {
        const input = document.querySelector("#try-upload input[type=file]:not([aria-label])");
        if (input) {
            input.setAttribute("aria-label", "Images to send");
        }
    }

    window.dash_clientside = Object.assign({}, window.dash_clientside, {pawqueue: {arrive, take, merge, preview, draw}});

    let goneSince = null;
    async function look() {
        let answers = false;
        try {
            answers = (await fetch("/healthz", {cache: "no-store"})).ok;
        } catch (error) {
            answers = false;
        }
        const banner = document.getElementById("offline");
        if (!banner) {
            return;
        }
        goneSince = answers ? null : goneSince || new Date();
        banner.hidden = answers;
        const clock = goneSince && goneSince.toISOString().slice(11, 16);
        banner.textContent = answers ? "" : `The dashboard has not answered since ${clock} UTC; what is shown is older.`;
    }
    function age() {
        for (const time of document.querySelectorAll("time.age")) {
            const seconds = Math.max(0, Math.round((Date.now() - Date.parse(time.dateTime)) / 1000));
            time.dataset.age = seconds < 120 ? `, ${seconds} s ago` : `, ${Math.round(seconds / 60)} min ago`;
        }
    }
    document.addEventListener("keyup", noteUse);  // of a Tab it goes to where the focus has gone
    document.addEventListener("pointerdown", noteUse);
    window.setInterval(age, 1000);
    window.setInterval(nameInput, 1000);
    window.setInterval(look, ALIVE_MS);
})();
