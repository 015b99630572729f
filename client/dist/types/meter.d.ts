/** How loud a local track is: for a level meter, or a ring around whoever speaks. */
export declare class Meter {
    #private;
    constructor(track: MediaStreamTrack);
    /** 0 to 1 of full scale (root mean square of the last 20 ms). 0 until the page may use sound. */
    get level(): number;
    close(): void;
}
