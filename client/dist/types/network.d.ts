/** What a browser tells of the network and of the page's life. Not in a browser it tells nothing. */
export interface NetworkListener {
    /** Worth checking the connection now. */
    hint(): void;
    /** The way to the server is another one than before. */
    changed(): void;
    /** The page goes away for good. */
    hidden(): void;
}
/** Listens until the function returned is called. */
export declare function watchNetwork(listener: NetworkListener): () => void;
